"""Train a model and predict the held-out perturbations."""

from perturbench.pipelines.modeling.pipeline import create_pipeline

__all__ = ["create_pipeline"]
