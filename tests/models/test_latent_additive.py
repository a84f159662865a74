"""The latent additive model, with and without masks and embeddings."""

import pytest
import torch
from tests.models.small_models import build, inputs_that_matter, new, trained
from torch.nn import functional as F

from perturbench.models import LatentAdditive
from perturbench.training.prediction import predict


def test_latent_vectors_add_up(module):
    model, batch = trained("latent"), module.counterfactuals()[:20]
    with torch.no_grad():
        cell = model.cell_encoder(torch.cat([batch.controls, batch.covariates["cell_type"]], dim=1))
        decoded = model.decoder(cell + model.perturbation_encoder(batch.perturbations))
        assert torch.equal(model.predict(batch), F.softplus(decoded))


def test_dropout_in_training_only(module):
    model, batch = trained("latent"), module.counterfactuals()[:20]
    with torch.no_grad():
        assert torch.equal(model.predict(batch), model.predict(batch))
        model.train()
        assert not torch.equal(model.predict(batch), model.predict(batch))


def test_predictions_are_positive(module):
    assert predict(trained("latent"), module, accelerator="cpu").X.min() > 0


@pytest.mark.parametrize(
    ("name", "hparams", "expected"),
    [
        ("latent", {}, "controls perturbations cell_type"),
        ("latent", {"inject_covariates_encoder": False}, "controls perturbations"),
        (
            "latent",
            {"inject_covariates_encoder": False, "inject_covariates_decoder": True},
            "controls perturbations cell_type",
        ),
    ],
)
def test_model_sees_only_the_inputs_it_is_given(module, name, hparams, expected):
    model = build(name, module.context, **hparams)
    assert inputs_that_matter(model, module.counterfactuals()[:20]) == expected.split()


def test_mask_multiplies_the_perturbation(module):
    model = new(LatentAdditive, module, latent_dim=4, encoder_width=8, sparse_additive_mechanism=True).eval()
    batch = module.counterfactuals()[:20]
    with torch.no_grad():
        mask = torch.sigmoid(model.mask_encoder(batch.perturbations))
        latent = model.cell_encoder(batch.controls) + mask * model.perturbation_encoder(batch.perturbations)
        assert torch.allclose(model.predict(batch), F.softplus(model.decoder(latent)), atol=1e-6)


def test_embedding_of_the_matched_control_is_used_in_training(embedded):
    """The model must not see the cell that it predicts, not even as an embedding."""
    model = new(LatentAdditive, embedded, use_embeddings=True).eval()
    batch = embedded.observed("train")[:10]
    with torch.no_grad():
        before = model.predict(batch)
        assert torch.equal(model.predict(batch._replace(embeddings=batch.embeddings + 1)), before)
    assert not torch.equal(batch.embeddings, batch.control_embeddings)
