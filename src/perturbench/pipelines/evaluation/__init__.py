"""Score every prediction of a task."""

from perturbench.pipelines.evaluation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
