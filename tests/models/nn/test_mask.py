"""Masks that are learned by gradients."""

import pytest
import torch

from perturbench.models.nn import bernoulli_kl, sample_mask


def test_ones_are_as_frequent_as_their_probability():
    torch.manual_seed(0)
    mask = sample_mask(torch.logit(torch.tensor([0.1, 0.5, 0.9])).expand(20_000, 3), random=True)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert mask.mean(dim=0).tolist() == pytest.approx([0.1, 0.5, 0.9], abs=0.02)


def test_gradients_go_straight_through():
    logits = torch.zeros(200, requires_grad=True)
    sample_mask(logits, random=True).sum().backward()
    assert (logits.grad > 0).all()


def test_mean_is_the_probability():
    logits = torch.randn(10)
    assert torch.equal(sample_mask(logits, random=False), torch.sigmoid(logits))


def test_kl_is_torchs():
    logits, prior = torch.randn(20) * 3, 0.03
    expected = torch.distributions.kl_divergence(
        torch.distributions.Bernoulli(logits=logits), torch.distributions.Bernoulli(torch.tensor(prior))
    )
    assert torch.allclose(bernoulli_kl(logits, prior), expected, atol=1e-5)
