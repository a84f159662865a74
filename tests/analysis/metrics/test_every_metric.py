"""What every metric has to do, whichever file defines it."""

import numpy as np
import pytest
import scipy.sparse as sp
from tests.analysis.predictions import KEYS, predict_observed, values_of

from perturbench.analysis.metrics.registry import resolve_metrics
from perturbench.analysis.profiles import Prediction, Reference

ALL = [metric.name for metric in resolve_metrics("all")]


@pytest.mark.parametrize("name", ALL)
def test_the_truth_itself_is_best(cells, reference, name):
    found = values_of(predict_observed(cells, reference), reference, name)
    best = {"rmse", "mse", "mae", "wmse", "matrix", "rank"}
    if "_rank_" in name or name.split("_")[0] in best or name == "de_jaccard_error":
        assert found == pytest.approx(np.zeros_like(found), abs=1e-6)
    elif name.startswith(("energy", "mmd")):
        assert (found < 0.05).all(), "the distance of a sample to itself is 0, or below 0 where it is unbiased"
    else:
        defined = found[~np.isnan(found)]
        assert len(defined)
        assert defined == pytest.approx(np.ones_like(defined), abs=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_the_order_of_cells_and_genes_and_the_format_do_not_matter(cells, reference, name):
    def noisy(x, obs):
        return np.abs(x + np.random.default_rng(0).normal(0, 0.4, x.shape))

    first = predict_observed(cells, reference, noisy)
    perturbed = cells[cells.obs["condition"] != "control"].copy()
    perturbed.X = np.asarray(noisy(perturbed.X.toarray(), None), dtype=np.float32)
    rng = np.random.default_rng(1)
    other = perturbed[rng.permutation(perturbed.n_obs), rng.permutation(perturbed.n_vars)].copy()
    other.X = sp.csr_matrix(other.X)
    shuffled = Reference(cells[rng.permutation(cells.n_obs)].copy(), KEYS)
    second = Prediction.from_adata(other, shuffled, "attack")
    assert values_of(second, shuffled, name) == pytest.approx(values_of(first, reference, name), abs=2e-5, nan_ok=True)


def test_missing_pair_is_undefined_everywhere(cells, reference):
    perturbed = cells[~cells.obs["condition"].isin(["control", "P3"])].copy()
    part = Prediction.from_adata(perturbed, reference, "part", missing="report")
    gone = np.array([condition == "P3" for _, condition in reference.pairs])
    for name in ALL:
        found = values_of(part, reference, name)
        if found.ndim:
            assert np.isnan(found[gone]).all(), name
            assert np.isfinite(found[~gone]).any(), name


def test_state_with_one_perturbation_and_a_group_with_one_cell(cells):
    keep = (cells.obs["cell_type"] == "state1") | cells.obs["condition"].isin(["control", "P1"])
    few = cells[keep].copy()
    lone = np.flatnonzero((few.obs["condition"] == "P2") & (few.obs["cell_type"] == "state1"))[1:]
    few = few[np.setdiff1d(np.arange(few.n_obs), lone)].copy()
    reference = Reference(few, KEYS)
    truth = predict_observed(few, reference)
    alone = reference.pairs.index((("state2",), "P1"))
    single = reference.pairs.index((("state1",), "P2"))
    for name in ("rmse_rank_average", "pds_l2", "pearson_delta_mean"):
        found = values_of(truth, reference, name)
        assert np.isnan(found[alone]), name
        assert not np.isnan(found[single]), name
    for name in ("cosine_scores", "top_k_recall_scores", "top_k_recall_wilcoxon", "de_auprc", "wmse"):
        found = values_of(truth, reference, name)
        assert np.isnan(found[single]), f"{name}: a test needs two cells"
        assert not np.isnan(found[alone]), name
    for name in ("rmse_average", "rmse_scaled"):
        assert np.isfinite(values_of(truth, reference, name)).all(), name
    for name in ("energy_pca", "mmd_pca", "mmd_rbf_pca", "rmse_var"):
        assert np.isnan(values_of(truth, reference, name)).nonzero()[0].tolist() == [single], name


def test_group_names_may_hold_the_separators_of_other_code(cells):
    """The published code splits group names at an underscore; names with it collide there."""
    other = cells.copy()
    other.obs["condition"] = other.obs["condition"].astype(str).str.replace("P1", "state1_P 1 \u00e9")
    named, plain = Reference(other, KEYS), Reference(cells, KEYS)
    noisy = predict_observed(other, named, lambda x, obs: x * 0.8)
    expected = predict_observed(cells, plain, lambda x, obs: x * 0.8)
    for name in ("rmse_average", "rmse_rank_average"):
        assert np.sort(values_of(noisy, named, name)) == pytest.approx(np.sort(values_of(expected, plain, name)))
