"""Comparisons by their definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.analysis.predictions import predict_means, values_of

from perturbench.analysis.metrics.registry import find_comparison


def test_values():
    observed, predicted = np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[3.0, 2.0], [0.0, 2.0]])
    expected = {
        "rmse": [np.sqrt(2), np.sqrt(2.5)],
        "mse": [2.0, 2.5],
        "mae": [1.0, 1.5],
        "cosine": [17 / (5 * np.sqrt(13)), 0.0],
        "pearson": [-1.0, -1.0],
        "spearman": [-1.0, -1.0],
        "r2_score": [1 - 4 / 0.5, 1 - 5 / 0.5],
    }
    for name, values in expected.items():
        assert find_comparison(name).rows(observed, predicted).tolist() == pytest.approx(values), name


def test_observed_is_the_truth_of_r2():
    observed, predicted = np.array([[0.0, 1.0, 2.0]]), np.array([[0.0, 0.0, 4.0]])
    assert find_comparison("r2_score").rows(observed, predicted)[0] == pytest.approx(1 - 5 / 2)
    constant = np.ones((1, 3))
    assert np.isnan(find_comparison("r2_score").rows(constant, predicted)[0])


def test_zero_and_constant_vectors_are_undefined():
    for name, degenerate in (
        ("cosine", np.zeros((1, 3))),
        ("pearson", np.full((1, 3), 0.1)),
        ("spearman", np.ones((1, 3))),
    ):
        rows = find_comparison(name).rows
        assert np.isnan(rows(np.array([[1.0, 2.0, 4.0]]), degenerate)).all(), name
        assert np.isnan(rows(degenerate, np.array([[1.0, 2.0, 4.0]]))).all(), name


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_symmetry_and_bounds(seed):
    a, b = np.random.default_rng(seed).normal(size=(2, 3, 12))
    for name in ("rmse", "mse", "mae", "cosine", "pearson", "spearman"):
        rows = find_comparison(name).rows
        assert rows(a, b) == pytest.approx(rows(b, a)), name
        if name in ("cosine", "pearson", "spearman"):
            assert (np.abs(rows(a, b)) <= 1 + 1e-12).all()
            assert rows(a, 3 * a) == pytest.approx(1)
        else:
            assert (rows(a, b) > 0).all() and (rows(a, a) == 0).all()
    assert (find_comparison("r2_score").rows(a, b) <= 1).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 8), offset=st.sampled_from([0.0, 3.0]))
def test_pairwise_forms_equal_row_forms(seed, n, offset):
    rng = np.random.default_rng(seed)
    observed, predicted = rng.normal(size=(2, n, 30)) + offset
    for name in ("rmse", "mse", "mae", "cosine", "pearson", "spearman", "r2_score"):
        comparison = find_comparison(name)
        assert comparison.pairwise is not None
        matrix = comparison.matrix(observed, predicted)
        by_rows = [[comparison.rows(observed[i], predicted[j]) for i in range(n)] for j in range(n)]
        assert matrix == pytest.approx(np.array(by_rows), abs=1e-9)


def test_no_effect_is_undefined_for_directions(reference):
    nothing = predict_means(reference, reference.control_means.copy())
    for name in ("cosine_logfc", "pearson_logfc", "pearson_delta"):
        assert np.isnan(values_of(nothing, reference, name)).all(), name
