"""The linear additive model."""

import pytest
import torch
from tests.models.small_models import build, inputs_that_matter, trained

from perturbench.training.prediction import predict


def test_linear_adds_one_effect_per_perturbation(module):
    model = trained("linear")
    batch = module.counterfactuals()[:5]
    effect, bias = model.effect.weight.detach(), model.effect.bias.detach()
    inputs = torch.cat([batch.perturbations, batch.covariates["cell_type"]], dim=1)
    expected = torch.log1p(torch.exp(batch.controls + inputs @ effect.T + bias))
    assert model.predict(batch).detach().numpy() == pytest.approx(expected.numpy(), abs=1e-5)


def test_predictions_are_positive(module):
    assert predict(trained("linear"), module, accelerator="cpu").X.min() > 0


@pytest.mark.parametrize(
    ("name", "hparams", "expected"),
    [
        ("linear", {}, "controls perturbations cell_type"),
        ("linear", {"inject_covariates": False}, "controls perturbations"),
    ],
)
def test_model_sees_only_the_inputs_it_is_given(module, name, hparams, expected):
    model = build(name, module.context, **hparams)
    assert inputs_that_matter(model, module.counterfactuals()[:20]) == expected.split()
