"""Distances between distributions of cells."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from tests.analysis.predictions import KEYS, predict_observed, values_of

from perturbench.analysis.profiles import Prediction
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
        for name in ("energy_pca", "mmd_pca", "rmse_var"):
            values = values_of(prediction, reference, name)
            assert np.isnan(values).all() or (name == "rmse_var" and (values > 1).all()), name


def test_distances_between_distributions_see_spread(cells, reference):
    """The right means with too little spread: no error of means, but another distribution."""

    def shrink(x, obs):
        codes = Groups.from_obs(obs, KEYS).pair_codes(reference.pairs)
        return reference.means[codes] + 0.2 * (x - reference.means[codes])

    narrow, truth = predict_observed(cells, reference, shrink), predict_observed(cells, reference)
    assert values_of(narrow, reference, "rmse_average") == pytest.approx(np.zeros(len(reference.pairs)), abs=1e-6)
    for name in ("energy_pca", "mmd_pca"):
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
