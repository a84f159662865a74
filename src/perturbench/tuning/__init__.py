"""Searching hyperparameters with Optuna."""
