"""What scores allow to say: intervals, paired tests, the best model."""
