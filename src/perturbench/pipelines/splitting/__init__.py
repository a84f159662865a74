"""Assign the curated cells to train, val and test."""

from perturbench.pipelines.splitting.pipeline import create_pipeline

__all__ = ["create_pipeline"]
