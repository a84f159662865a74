"""Statistical inference from scores: confidence intervals, paired tests, the best model."""
