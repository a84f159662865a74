"""Masks of zeros and ones that are learned by gradients."""

from __future__ import annotations

import math

import torch

#: Temperature of the relaxation; a lower one is closer to a Bernoulli variable, but its gradients are noisier.
TEMPERATURE = 0.5


def sample_mask(logits: torch.Tensor, random: bool) -> torch.Tensor:
    """Draw a Bernoulli mask with a straight-through gradient.

    The forward pass returns exact zeros and ones; the backward pass uses the gradient of a continuous relaxation.

    Parameters
    ----------
    logits
        Log odds of a one, of any shape.
    random
        Whether to draw; otherwise the probabilities are returned, which are the mean of the mask.

    Returns
    -------
    The mask, in the shape of ``logits``.

    Notes
    -----
    The relaxation is the binary Concrete or Gumbel-sigmoid distribution (Maddison et al. 2017, Jang et al. 2017).
    """
    if not random:
        return torch.sigmoid(logits)
    uniform = torch.rand_like(logits).clamp(1e-6, 1 - 1e-6)  # the logit of 0 or 1 is infinite
    soft = torch.sigmoid((logits + torch.logit(uniform)) / TEMPERATURE)
    hard = (soft > 0.5).to(soft.dtype)
    # Straight-through estimator: the value is hard, because soft - soft is 0; the gradient is that of soft.
    return hard + (soft - soft.detach())


def bernoulli_kl(logits: torch.Tensor, prior_probability: float) -> torch.Tensor:
    """Return the KL divergence of Bernoulli(sigmoid(logits)) from a Bernoulli prior, in the shape of ``logits``."""
    # Logsigmoid and log1p stay finite where the logarithm of a rounded probability would not.
    log_p, log_not_p = torch.nn.functional.logsigmoid(logits), torch.nn.functional.logsigmoid(-logits)
    prior, not_prior = math.log(prior_probability), math.log1p(-prior_probability)
    return log_p.exp() * (log_p - prior) + log_not_p.exp() * (log_not_p - not_prior)
