"""From curated counts to what models train on."""

from perturbench.pipelines.preprocessing.pipeline import create_pipeline

__all__ = ["create_pipeline"]
