"""From scores to figures and a report."""

from perturbench.pipelines.reporting.pipeline import create_pipeline

__all__ = ["create_pipeline"]
