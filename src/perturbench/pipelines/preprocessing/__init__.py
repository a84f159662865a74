"""From curated counts to the prepared cells that models train on."""

from perturbench.pipelines.preprocessing.pipeline import create_pipeline

__all__ = ["create_pipeline"]
