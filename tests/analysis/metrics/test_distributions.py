"""Distances between distributions of cells."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from tests.analysis.predictions import KEYS, predict_observed, values_of

from perturbench.analysis.metrics import distributions
from perturbench.analysis.metrics.distributions import mmd_rank
from perturbench.analysis.profiles import Prediction, Reference
from perturbench.data.groups import Groups


def test_a_few_placed_cells_do_not_win_a_distance_between_distributions(cells, reference):
    """One cell has no within-term, and two opposite ones a huge one: unbiased estimates are only so for samples."""
    means = ad.AnnData(reference.means.astype(np.float32), var=pd.DataFrame(index=reference.genes))
    means.obs["condition"] = [condition for _, condition in reference.pairs]
    means.obs["cell_type"] = [state[0] for state, _ in reference.pairs]
    pseudobulk = Prediction.from_adata(means, reference, "means")
    far = np.random.default_rng(0).normal(size=reference.means.shape[1]) * 50
    two = ad.concat([means, means], index_unique="-")
    two.X = np.concatenate([means.X + far, means.X - far])
    for prediction in (pseudobulk, Prediction.from_adata(two, reference, "two")):
        for name in ("energy_pca", "mmd_pca", "mmd_rbf_pca", "rmse_var"):
            values = values_of(prediction, reference, name)
            assert np.isnan(values).all() or (name == "rmse_var" and (values > 1).all()), name


def test_distances_between_distributions_see_spread(cells, reference):
    """The right means with too little spread: no error of means, but another distribution."""

    def shrink(x, obs):
        codes = Groups.from_obs(obs, KEYS).pair_codes(reference.pairs)
        return reference.means[codes] + 0.2 * (x - reference.means[codes])

    narrow, truth = predict_observed(cells, reference, shrink), predict_observed(cells, reference)
    assert values_of(narrow, reference, "rmse_average") == pytest.approx(np.zeros(len(reference.pairs)), abs=1e-6)
    for name in ("energy_pca", "mmd_pca", "mmd_rbf_pca"):
        assert (values_of(narrow, reference, name) > values_of(truth, reference, name) + 0.01).all(), name


def test_energy_is_its_definition(cells, reference):
    noisy = predict_observed(cells, reference, lambda x, obs: x + 0.5)
    row = 0
    x = cells.X[np.flatnonzero(Groups.from_obs(cells.obs, KEYS).pair_codes(reference.pairs) == row)].toarray()
    y = x + 0.5  # all components are kept, so distances are those of the genes

    def mean_distance(a, b):
        return np.linalg.norm(a[:, None] - b[None], axis=2)

    n = len(x)
    within = mean_distance(x, x).sum() / (n * (n - 1))
    assert values_of(noisy, reference, "energy_pca")[row] == pytest.approx(
        2 * mean_distance(x, y).mean() - 2 * within, abs=1e-3
    )


def mean_distance(a, b):
    return np.linalg.norm(a[:, None] - b[None], axis=2).mean()


def test_mmd_is_half_the_biased_energy_distance(cells, reference):
    shifted = predict_observed(cells, reference, lambda x, obs: x * 0.5 + 0.3)
    codes = Groups.from_obs(cells.obs, KEYS).pair_codes(reference.pairs)
    for row, value in enumerate(values_of(shifted, reference, "mmd_pca")):
        x = cells.X[np.flatnonzero(codes == row)].toarray()  # all 80 components are kept
        y = x * 0.5 + 0.3
        expected = mean_distance(x, y) - mean_distance(x, x) / 2 - mean_distance(y, y) / 2
        assert value == pytest.approx(expected, abs=1e-4)


def test_mmd_of_points_by_hand(monkeypatch):
    """Two observed cells at 0 and 2, twenty predicted ones at 5: 4 - (0 + 2 + 2 + 0) / 4 / 2 - 0."""
    monkeypatch.setattr(distributions, "_BLOCK", 3)
    x = np.array([[0.0], [2.0], [1.0]] + [[5.0]] * 20)
    names = ["P", "P", "control"] + ["P"] * 20
    adata = ad.AnnData(
        x.astype(np.float32), obs=pd.DataFrame({"condition": names, "cell_type": "s"}, list(map(str, range(23))))
    )
    observed = Reference(adata[:3].copy(), KEYS)
    predicted = Prediction.from_adata(adata[3:].copy(), observed, "five")
    assert values_of(predicted, observed, "mmd_pca") == pytest.approx([3.5])


def test_mmd_rank_is_the_share_of_predictions_that_are_nearer(cells, reference):
    """Predictions that are exchanged within a state, against a ranking of every MMD."""
    names = sorted({condition for _, condition in reference.pairs})
    perturbed = cells[cells.obs["condition"] != "control"].copy()
    perturbed.obs["condition"] = perturbed.obs["condition"].map(dict(zip(names, names[1:] + names[:1], strict=True)))
    exchanged = Prediction.from_adata(perturbed, reference, "exchanged")
    predicted_codes = Groups.from_obs(perturbed.obs, KEYS).pair_codes(reference.pairs)
    codes = Groups.from_obs(cells.obs, KEYS).pair_codes(reference.pairs)
    pairs = reference.pairs_of_state(0)
    x = [cells.X[np.flatnonzero(codes == pair)].toarray() for pair in pairs]
    y = [perturbed.X[np.flatnonzero(predicted_codes == pair)].toarray() for pair in pairs]
    within = [[mean_distance(cells, cells) for cells in side] for side in (x, y)]
    found = mmd_rank(reference, exchanged, n_cells=10_000)[pairs]
    for i in range(len(pairs)):
        values = [mean_distance(x[i], y[j]) - within[0][i] / 2 - within[1][j] / 2 for j in range(len(pairs))]
        assert found[i] == pytest.approx(np.mean([v < values[i] for j, v in enumerate(values) if j != i]))
    assert found.mean() > 0.5
    assert mmd_rank(reference, predict_observed(cells, reference)).tolist() == [0.0] * len(reference.pairs)


def test_a_collapsed_model_has_an_mmd_rank_of_one_half(cells, reference):
    controls = cells[(cells.obs["condition"] == "control") & (cells.obs["cell_type"] == "state1")]
    parts = []
    for state, condition in reference.pairs:
        part = controls.copy()
        part.obs["condition"], part.obs["cell_type"] = condition, state[0]
        parts.append(part)
    collapsed = Prediction.from_adata(ad.concat(parts, index_unique="-"), reference, "collapsed")
    assert values_of(collapsed, reference, "mmd_rank_pca").tolist() == [0.5] * len(reference.pairs)
