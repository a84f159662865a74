"""Gaussian latent variables and the loss of an isotropic Gaussian decoder."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from perturbench.models.nn.mlp import MLP


class Gaussian(NamedTuple):
    """A diagonal Gaussian for each row, ``(n_rows, n_latent)`` each."""

    mean: torch.Tensor
    log_variance: torch.Tensor

    def sample(self) -> torch.Tensor:
        """Draw once per row, with gradients to mean and variance (Kingma & Welling 2014)."""
        return self.mean + torch.randn_like(self.mean) * torch.exp(0.5 * self.log_variance)

    def draw(self, random: bool) -> torch.Tensor:
        """Return a sample, or the mean."""
        return self.sample() if random else self.mean

    def kl(self) -> torch.Tensor:
        """Return the KL divergence from N(0, 1) of each row, summed over dimensions, ``(n_rows,)``."""
        terms = self.mean.square() + self.log_variance.exp() - 1 - self.log_variance
        return 0.5 * terms.sum(dim=1)


class GaussianEncoder(nn.Module):
    """A network whose output is a Gaussian: an MLP to the hidden width, then a linear head each for its parameters.

    Parameters
    ----------
    n_input, n_hidden, n_latent
        Widths.
    n_layers, dropout, elementwise_affine
        As in :class:`MLP`.
    """

    def __init__(
        self,
        n_input: int,
        n_hidden: int,
        n_latent: int,
        n_layers: int,
        dropout: float | None = None,
        elementwise_affine: bool = False,
    ) -> None:
        super().__init__()
        self.body = MLP(n_input, n_hidden, n_hidden, n_layers, dropout, elementwise_affine)
        self.mean = nn.Linear(n_hidden, n_latent)
        self.log_variance = nn.Linear(n_hidden, n_latent)

    def forward(self, inputs: torch.Tensor) -> Gaussian:
        """Return the Gaussian of each row of ``inputs``, ``(n_rows, n_input)``."""
        hidden = self.body(inputs)
        return Gaussian(self.mean(hidden), self.log_variance(hidden))


def squared_error(predicted: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """Return the squared error summed over genes, mean over cells: an isotropic Gaussian's loss, a scalar."""
    return (predicted - observed).square().sum(dim=1).mean()
