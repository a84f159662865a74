"""Layers shared by models."""

from perturbench.models.nn.mlp import MLP

__all__ = ["MLP"]
