"""Gaussian latent variables, and the loss of a decoder with isotropic Gaussian noise."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn


class Gaussian(NamedTuple):
    """One diagonal Gaussian per row.

    Attributes
    ----------
    mean, log_variance
        Mean and logarithm of the variance, ``(n_rows, n_latent)`` each.
    """

    mean: torch.Tensor
    log_variance: torch.Tensor

    def sample(self) -> torch.Tensor:
        """Draw one sample per row, ``(n_rows, n_latent)``."""
        # The noise does not depend on mean and variance, so that gradients reach both (Kingma & Welling 2014).
        return self.mean + torch.randn_like(self.mean) * torch.exp(0.5 * self.log_variance)

    def draw(self, random: bool) -> torch.Tensor:
        """Return a sample if ``random``, otherwise the mean, ``(n_rows, n_latent)``."""
        return self.sample() if random else self.mean

    def kl(self) -> torch.Tensor:
        """Return the KL divergence of each row from N(0, 1), summed over the latent dimensions, ``(n_rows,)``."""
        terms = self.mean.square() + self.log_variance.exp() - 1 - self.log_variance
        return 0.5 * terms.sum(dim=1)


class GaussianEncoder(nn.Module):
    """A network that returns a Gaussian: its body, then one linear head for the mean and one for the log variance.

    Parameters
    ----------
    body
        Network from the input to ``n_hidden`` values per row.
    n_hidden, n_latent
        Width of the body's output and of the Gaussian.
    """

    def __init__(self, body: nn.Module, n_hidden: int, n_latent: int) -> None:
        super().__init__()
        self.body = body
        self.mean = nn.Linear(n_hidden, n_latent)
        self.log_variance = nn.Linear(n_hidden, n_latent)

    def forward(self, inputs: torch.Tensor) -> Gaussian:
        """Return one Gaussian per row of ``inputs``, ``(n_rows, n_input)``."""
        hidden = self.body(inputs)
        return Gaussian(self.mean(hidden), self.log_variance(hidden))


def squared_error(predicted: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """Return the squared error, summed over genes and averaged over cells, a scalar.

    Up to a constant it is the negative log likelihood of isotropic Gaussian noise with variance 1/2.
    """
    return (predicted - observed).square().sum(dim=1).mean()
