"""Evaluation of predictions for a task by its name, at the import path of the paper."""
