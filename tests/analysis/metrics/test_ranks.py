"""Ranks by the definition of the paper, with ties, collapse and undefined values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.analysis.predictions import predict_means, values_of

from perturbench.analysis.metrics.ranks import rank_of_matches
from perturbench.analysis.metrics.registry import find_comparison


def rank_by_hand(observed, predicted, distance):
    """Eq. 2 of the paper as it is written; equal distances count one half."""
    n = len(observed)
    ranks = []
    for i in range(n):
        own = distance(predicted[i], observed[i])
        others = [distance(predicted[j], observed[i]) for j in range(n) if j != i]
        ranks.append(sum((d < own) + 0.5 * (d == own) for d in others) / (n - 1))
    return np.array(ranks)


def rmse(a, b):
    return np.sqrt(np.mean((a - b) ** 2))


def negative_cosine(a, b):
    return -(a @ b) / np.sqrt((a @ a) * (b @ b))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(2, 9), n_genes=st.integers(2, 30), noise=st.sampled_from([0.1, 1, 5]))
def test_rank_is_the_papers(seed, n, n_genes, noise):
    rng = np.random.default_rng(seed)
    observed = rng.normal(size=(n, n_genes))
    predicted = observed + noise * rng.normal(size=(n, n_genes))
    for name, distance in (("rmse", rmse), ("cosine", negative_cosine)):
        comparison = find_comparison(name)
        ranks = rank_of_matches(comparison.matrix(observed, predicted), comparison.better)
        assert ranks == pytest.approx(rank_by_hand(observed, predicted, distance))


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=4, max_size=4))
def test_ties_count_one_half(values):
    matrix = np.array(values, dtype=float)
    expected = [
        sum((matrix[j, i] < matrix[i, i]) + 0.5 * (matrix[j, i] == matrix[i, i]) for j in range(4) if j != i) / 3
        for i in range(4)
    ]
    assert rank_of_matches(matrix, "lower").tolist() == pytest.approx(expected)
    assert rank_of_matches(-matrix, "higher").tolist() == pytest.approx(expected)


def test_rank_is_of_predictions_for_an_observation():
    # Prediction 0 is near both observations; prediction 1 is far from both.
    matrix = np.array([[1.0, 1.0], [5.0, 5.0]])
    assert rank_of_matches(matrix, "lower").tolist() == [0.0, 1.0]
    assert rank_of_matches(matrix, "higher").tolist() == [1.0, 0.0]


@pytest.mark.parametrize("name", ["rmse", "mse", "mae", "cosine", "pearson", "spearman", "r2_score"])
def test_rank_anchors(name):
    comparison = find_comparison(name)
    observed = np.random.default_rng(0).normal(size=(7, 40))
    assert rank_of_matches(comparison.matrix(observed, observed), comparison.better).tolist() == [0.0] * 7
    for constant in (observed.mean(axis=0), np.zeros(40), observed[3]):
        collapsed = np.tile(constant, (7, 1))
        assert rank_of_matches(comparison.matrix(observed, collapsed), comparison.better).tolist() == [0.5] * 7


@pytest.mark.parametrize("name", ["rmse", "mae", "cosine", "pearson"])
def test_collapse_up_to_float32_is_collapse(name):
    comparison = find_comparison(name)
    rng = np.random.default_rng(0)
    observed = rng.normal(size=(7, 40)) + 3
    collapsed = np.tile(observed.mean(axis=0), (7, 1)) * (1 + 1e-8 * rng.normal(size=(7, 40)))
    assert rank_of_matches(comparison.matrix(observed, collapsed), comparison.better).tolist() == [0.5] * 7


def test_rank_of_one_is_undefined():
    assert np.isnan(rank_of_matches(np.zeros((1, 1)), "lower")).tolist() == [True]


def test_one_wild_prediction_does_not_hide_the_others():
    comparison = find_comparison("rmse")
    observed = np.random.default_rng(0).normal(size=(5, 40))
    predicted = observed.copy()
    predicted[4] = 1e9
    ranks = rank_of_matches(comparison.matrix(observed, predicted), comparison.better)
    assert ranks.tolist() == [0.0, 0.0, 0.0, 0.0, 1.0]


def test_undefined_value_is_never_near():
    # Higher is better: no direction is a cosine of 0, nearer than -1 and farther than 1.
    assert rank_of_matches(np.array([[np.nan, 0.5], [-1.0, 1.0]]), "higher").tolist() == [0.0, 0.0]
    assert rank_of_matches(np.array([[np.nan, 0.5], [1.0, 1.0]]), "higher").tolist() == [1.0, 0.0]
    # Lower is better: a distance that is not known is not a distance of 0.
    assert rank_of_matches(np.array([[np.nan, 2.0], [1.0, 1.0]]), "lower").tolist() == [1.0, 0.0]
    lone = np.full((4, 4), np.nan)
    lone[1, 1], lone[2, 1] = 1.0, 3.0
    assert rank_of_matches(lone, "lower").tolist() == [0.5, 0.0, 0.5, 0.5]


def test_rounding_does_not_rank(reference):
    """A collapsed model whose predictions differ by what float32 arithmetic leaves."""
    rng = np.random.default_rng(0)
    mean = reference.means.mean(axis=0)
    noisy = np.tile(mean, (len(reference.pairs), 1)) * (1 + 6e-8 * rng.normal(size=reference.means.shape))
    for name in ("rmse_rank_average", "cosine_rank_logfc", "pearson_rank_average", "mae_rank_average"):
        assert set(values_of(predict_means(reference, noisy), reference, name)) == {0.5}, name
