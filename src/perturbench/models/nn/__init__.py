"""Layers, distributions and losses that several models use."""

from perturbench.models.nn.gaussian import Gaussian, GaussianEncoder, squared_error
from perturbench.models.nn.mask import bernoulli_kl, sample_mask
from perturbench.models.nn.mlp import MLP, blocks

__all__ = ["MLP", "Gaussian", "GaussianEncoder", "bernoulli_kl", "blocks", "sample_mask", "squared_error"]
