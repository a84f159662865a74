"""SAMS-VAE: its masks, the weights of its KL divergences, and what its encoders see."""

import pytest
import torch
from tests.models.small_models import make_module, new
from torch.nn import functional as F

from perturbench.errors import PerturbenchError
from perturbench.models import SAMSVAE
from perturbench.models.nn import Gaussian
from perturbench.training.checkpoints import load_model
from perturbench.training.fitting import fit

SMALL_SAMS = {"latent_dim": 4, "hidden_dim_x": 16, "hidden_dim_cond": 16}


def small_batch(module):
    """Two cells of the first perturbation, one of the first and the second, one control."""
    codes = torch.zeros(4, 6)
    codes[0, 0] = codes[1, 0] = codes[2, 0] = codes[2, 1] = 1
    return module.observed("train")[:4]._replace(perturbations=codes)


def test_kl_weights(module):
    model = new(SAMSVAE, module, **SMALL_SAMS, mask_prior_probability=0.2)
    model.n_training_cells[:] = torch.tensor([30.0, 20, 7, 7, 7, 7])
    with torch.no_grad():
        model.mask_logits.normal_()
    embeddings = Gaussian(torch.randn(6, 4), torch.randn(6, 4))
    p = torch.sigmoid(model.mask_logits)
    mask_kl = (p * (p / 0.2).log() + (1 - p) * ((1 - p) / 0.8).log()).sum(1)
    embedding_kl = 0.5 * (embeddings.mean**2 + embeddings.log_variance.exp() - 1 - embeddings.log_variance).sum(1)
    # Cells: t0, t0, t0 + t1, control.
    expected = (3 * embedding_kl[0] / 30 + embedding_kl[1] / 20) / 4 + 3 / 30 * mask_kl[0] + 1 / 20 * mask_kl[1]
    found = model.perturbation_kl(small_batch(module), embeddings)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_training_cells_are_counted():
    module = make_module()
    model = new(SAMSVAE, module, **SMALL_SAMS)
    loaded = load_model(fit(model, module, max_epochs=1, accelerator="cpu"))
    train = module.adata.obs.iloc[module.rows["train"]]["condition"].astype(str)
    for name, count in zip(module.context["perturbation_uniques"], loaded.n_training_cells, strict=True):
        assert count == train.map(lambda condition, name=name: name in condition.split("+")).sum()


def test_mask_is_sparser_with_a_smaller_prior(module):
    probability = {}
    for prior in (0.001, 0.9):
        model = new(SAMSVAE, module, **SMALL_SAMS, mask_prior_probability=prior, lr=1e-2)
        trained = load_model(fit(model, module, max_epochs=30, accelerator="cpu"))
        probability[prior] = torch.sigmoid(trained.mask_logits).mean().item()
    assert probability[0.001] < probability[0.9] - 0.2


def test_shift_is_the_sum_over_the_cells_perturbations(module):
    model = new(SAMSVAE, module, **SMALL_SAMS).eval()
    batch = small_batch(module)
    with torch.no_grad():
        mask, embeddings = model._encode_perturbations()
        e = mask * embeddings.mean
        cell = model.cell_encoder(torch.cat([batch.controls, torch.zeros(4, 4)], dim=1)).mean
        shift = torch.stack([e[0], e[0], e[0] + e[1], torch.zeros(4)])
        expected = F.softplus(model.decoder(cell + shift))
        assert torch.allclose(model.predict(batch), expected, atol=1e-6)


def test_simplified_variant_has_neither_masks_nor_distributions(module):
    model = new(SAMSVAE, module, **SMALL_SAMS, sparse_additive_mechanism=False, embedding_distribution=False)
    batch = small_batch(module)
    assert model.mask_logits is None
    assert model.perturbation_kl(batch, Gaussian(torch.randn(6, 4), torch.randn(6, 4))).item() == 0
    model.loss(batch)["loss"].backward()
    assert all(value.grad is not None for value in model.parameters()), "no weight is left unused"


@pytest.mark.parametrize("mean_field", [True, False])
def test_mean_field_encoders_do_not_see_shift_or_mask(module, mean_field):
    model = new(SAMSVAE, module, **SMALL_SAMS, mean_field_encoding=mean_field)
    assert model.cell_encoder.body[0].in_features == 30 + (0 if mean_field else 4)
    assert model.embedding_encoder.body[0].in_features == 6 + (0 if mean_field else 4)


def test_generative_prediction_does_not_see_the_cell(module):
    model = new(SAMSVAE, module, **SMALL_SAMS, generative_counterfactual=True).eval()
    batch = small_batch(module)
    with torch.no_grad():
        assert torch.equal(model.predict(batch), model.predict(batch._replace(controls=batch.controls + 1)))


def test_gradients_reach_the_masks_of_the_batch_only(module):
    model = new(SAMSVAE, module, **SMALL_SAMS)
    model.loss(small_batch(module))["loss"].backward()
    reached = model.mask_logits.grad.abs().sum(dim=1) > 0
    assert reached.tolist() == [True, True, False, False, False, False]


@pytest.mark.parametrize("prior", [0.0, 1.0, -1])
def test_prior_must_be_a_probability(module, prior):
    with pytest.raises(PerturbenchError, match=r"mask_prior_probability is .*; choose a value above 0 and below 1"):
        SAMSVAE(module.context, mask_prior_probability=prior)
