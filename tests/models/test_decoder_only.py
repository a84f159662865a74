"""The decoder-only model."""

import pytest
from tests.models.small_models import build, inputs_that_matter, make_module, observed_cells, trained

from perturbench.analysis import evaluate
from perturbench.errors import PerturbenchError
from perturbench.models import DecoderOnly
from perturbench.training.prediction import predict


def test_decoder_of_covariates_is_fully_collapsed(module):
    predicted = predict(trained("decoder_cov"), module, accelerator="cpu")
    scores = evaluate({"m": predicted}, observed_cells(module, "test")).scores
    per_state = scores.groupby("cell_type")["perturbation"].nunique()
    assert (per_state > 1).all()
    assert set(scores.loc[scores["metric"].str.contains("rank"), "value"]) == {0.5}


@pytest.mark.parametrize("covariates", [True, False])
def test_decoder_without_an_input_is_refused(covariates):
    context = make_module(() if covariates else ("cell_type",)).context
    with pytest.raises(PerturbenchError, match=rf"would have no input: use_covariates={covariates}"):
        DecoderOnly(context, use_covariates=covariates, use_perturbations=False)


def test_predictions_are_positive(module):
    assert predict(trained("decoder"), module, accelerator="cpu").X.min() > 0


@pytest.mark.parametrize(
    ("name", "hparams", "expected"),
    [
        ("decoder", {}, "perturbations cell_type"),
        ("decoder_cov", {}, "cell_type"),
        ("decoder_pert", {}, "perturbations"),
    ],
)
def test_model_sees_only_the_inputs_it_is_given(module, name, hparams, expected):
    model = build(name, module.context, **hparams)
    assert inputs_that_matter(model, module.counterfactuals()[:20]) == expected.split()
