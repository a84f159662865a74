"""Search for good hyperparameters with Optuna."""
