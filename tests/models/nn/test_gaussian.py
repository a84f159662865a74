"""Gaussian latent variables."""

import torch

from perturbench.models.nn import MLP, Gaussian, GaussianEncoder, squared_error


def test_kl_is_torchs():
    torch.manual_seed(0)
    mean, log_variance = torch.randn(2, 10, 4)
    ours = Gaussian(mean, log_variance).kl()
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, log_variance.mul(0.5).exp()), torch.distributions.Normal(0.0, 1.0)
    )
    assert torch.allclose(ours, theirs.sum(dim=1), atol=1e-5)


def test_samples_have_mean_and_variance():
    torch.manual_seed(0)
    drawn = Gaussian(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 2.0]]).log1p())
    samples = torch.cat([drawn.draw(random=True) for _ in range(20_000)])
    assert torch.allclose(samples.mean(dim=0), torch.tensor([1.0, -2.0]), atol=0.05)
    assert torch.allclose(samples.var(dim=0), torch.tensor([1.0, 3.0]), atol=0.1)
    assert torch.equal(drawn.draw(random=False), drawn.mean)


def test_gradients_reach_both_heads():
    torch.manual_seed(0)
    encoder = GaussianEncoder(MLP(5, 8, 8, n_layers=1), n_hidden=8, n_latent=3)
    encoder(torch.randn(4, 5)).sample().square().sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in encoder.parameters())


def test_squared_error_sums_over_genes_and_averages_over_cells():
    assert squared_error(torch.ones(2, 3), torch.tensor([[0.0, 0, 0], [1, 1, 3]])).item() == (3 + 4) / 2
