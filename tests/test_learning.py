"""Every model, with its defaults, learns what a simulated screen with known effects has to teach."""

import pytest
from benchmarks.learning import learn, of_the_project

BASELINES = ["control", "mean_response", "perturbation_mean", "additive", "ridge"]
NETWORKS = ["linear_additive", "latent_additive", "decoder_only", "decoder_only_pert"]
AUTOENCODERS = ["cpa", "cpa_no_adv", "sams_vae", "sams_vae_s", "biolord"]
COLLAPSED = "decoder_only_cov"


@pytest.fixture(scope="module")
def table(project):
    return learn(of_the_project([*BASELINES, *NETWORKS, *AUTOENCODERS, COLLAPSED]))


@pytest.mark.parametrize("model", ["additive", "ridge", *NETWORKS, *AUTOENCODERS])
def test_beats_no_effect_and_the_same_effect_for_all(table, model):
    best = min(table.loc[["control", COLLAPSED], "rmse_average"])
    assert table.loc[model, "rmse_average"] < 0.9 * best
    assert table.loc[model, "rmse_rank_average"] < 0.25
    assert table.loc[model, "cosine_logfc"] > table.loc[COLLAPSED, "cosine_logfc"]


@pytest.mark.parametrize("model", ["latent_additive", "cpa", "cpa_no_adv", "sams_vae_s"])
def test_signs_of_strong_effects_of_held_out_combinations(table, model):
    assert table.loc[model, "signs"] >= 0.9


def test_decoder_of_covariates_is_collapsed_and_the_diagnostics_show_it(table):
    assert table.loc[COLLAPSED, "rmse_rank_average"] == 0.5
    assert table.loc[COLLAPSED, "similarity"] > 0.95
    assert table.loc["latent_additive", "similarity"] < 0.8
