"""Masks of zeros and ones that are learned by gradients."""

from __future__ import annotations

import math

import torch

#: Of the relaxation; low values are nearer to a Bernoulli, and noisier.
TEMPERATURE = 0.5


def sample_mask(logits: torch.Tensor, random: bool) -> torch.Tensor:
    """Draw a Bernoulli mask, straight-through: exact zeros and ones forward, the relaxation's gradient backward.

    Parameters
    ----------
    logits
        Log odds of a one, any shape.
    random
        Draw; otherwise return the probabilities, the mask's mean.

    Notes
    -----
    Relaxation of Maddison et al. 2017 and Jang et al. 2017 (binary Concrete, Gumbel-sigmoid).
    """
    if not random:
        return torch.sigmoid(logits)
    uniform = torch.rand_like(logits).clamp(1e-6, 1 - 1e-6)
    soft = torch.sigmoid((logits + torch.logit(uniform)) / TEMPERATURE)
    hard = (soft > 0.5).to(soft.dtype)
    return hard + (soft - soft.detach())


def bernoulli_kl(logits: torch.Tensor, prior_probability: float) -> torch.Tensor:
    """Return the KL divergence of Bernoulli(sigmoid(logits)) from a Bernoulli prior, per element."""
    log_p, log_not_p = torch.nn.functional.logsigmoid(logits), torch.nn.functional.logsigmoid(-logits)
    prior, not_prior = math.log(prior_probability), math.log1p(-prior_probability)
    return log_p.exp() * (log_p - prior) + log_not_p.exp() * (log_not_p - not_prior)
