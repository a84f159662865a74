"""Predict the queries of a table with a trained model."""

from perturbench.pipelines.prediction.pipeline import create_pipeline

__all__ = ["create_pipeline"]
