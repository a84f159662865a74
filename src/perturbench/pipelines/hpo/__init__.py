"""Search for good hyperparameters."""

from perturbench.pipelines.hpo.pipeline import create_pipeline

__all__ = ["create_pipeline"]
