"""Write a table of what can be predicted, to edit."""

from perturbench.pipelines.template.pipeline import create_pipeline

__all__ = ["create_pipeline"]
