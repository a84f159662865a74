"""BioLord: its penalty and its noise."""

import numpy as np
import pytest
import torch
from tests.models.small_models import make_module, new

from perturbench.models import BioLord

TWO = ("cell_type", "line")


@pytest.mark.parametrize("covariates", [(), ("cell_type",), TWO])
def test_penalty_is_summed_over_the_cells_of_the_batch(covariates):
    module = make_module(covariates)
    model = new(BioLord, module, latent_dim=4, encoder_width=8, penalty_weight=10.0)
    rows = np.flatnonzero((module.adata.obs["cell_type"] == "state1").to_numpy()[module.rows["train"]])[:20]
    batch = module.observed("train")[rows]
    expected = 20 * sum(embedding[0].detach().square().sum() for embedding in model.covariate_embeddings)
    assert float(model.penalty(batch).detach()) == pytest.approx(float(expected), rel=1e-6)
    if covariates:
        model.penalty(batch).backward()
        for embedding in model.covariate_embeddings:
            assert embedding.grad[0].tolist() == pytest.approx((20 * 2 * embedding[0]).tolist(), rel=1e-5)
            assert not embedding.grad[1:].any()


def test_val_loss_has_no_penalty(module):
    batch = module.observed("train")[:20]
    model = new(BioLord, module, latent_dim=4, penalty_weight=100.0).eval()
    assert model.validation_loss(batch).item() == model.loss(batch)["reconstruction"].item()


def test_penalty_is_weighted(module):
    batch = module.observed("train")[:20]
    one, ten = (new(BioLord, module, latent_dim=4, penalty_weight=weight).eval() for weight in (1.0, 10.0))
    difference = (ten.loss(batch)["loss"] - one.loss(batch)["loss"]).item()
    assert difference == pytest.approx(9 * one.penalty(batch).item(), rel=1e-4)


def test_noise_is_added_in_training_only(module):
    model, batch = new(BioLord, module, latent_dim=4, noise=1.0), module.observed("train")[:20]
    assert not torch.equal(model.loss(batch)["loss"], model.loss(batch)["loss"])
    model.eval()
    assert torch.equal(model.loss(batch)["loss"], model.loss(batch)["loss"])
