"""From a source to curated counts."""

from perturbench.pipelines.ingestion.pipeline import create_pipeline

__all__ = ["create_pipeline"]
