"""Write a template of the table of queries, for the user to edit."""

from perturbench.pipelines.template.pipeline import create_pipeline

__all__ = ["create_pipeline"]
