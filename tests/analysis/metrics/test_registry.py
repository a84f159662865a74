import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perturbench.analysis import register_aggregation, register_comparison
from perturbench.analysis.metrics.ranks import rank_of_matches
from perturbench.analysis.metrics.registry import available_metrics, find_comparison, find_metric, resolve_metrics
from perturbench.errors import PerturbenchError


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


def test_matrix_without_a_fast_form(registry):
    @register_comparison("worst", better="lower")
    def worst(observed, predicted):
        return np.abs(observed - predicted).max(axis=-1)

    observed, predicted = np.array([[0.0, 0.0], [1.0, 5.0]]), np.array([[0.0, 1.0], [1.0, 1.0]])
    assert find_comparison("worst").matrix(observed, predicted).tolist() == [[1, 4], [1, 4]]


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


def test_default_profile():
    names = [metric.name for metric in resolve_metrics("default")]
    assert names == ["rmse_average", "rmse_rank_average", "cosine_logfc", "cosine_rank_logfc"]


def test_direction():
    assert find_metric("rmse_average").better == "lower"
    assert find_metric("cosine_logfc").better == "higher"
    assert find_metric("rmse_rank_average").better == "lower"
    assert find_metric("cosine_rank_logfc").better == "lower"


def test_names_are_resolved_once_and_in_order():
    names = [metric.name for metric in resolve_metrics(["cosine_logfc", "rmse_average", "cosine_logfc"])]
    assert names == ["cosine_logfc", "rmse_average"]


def test_unknown_name_lists_the_choices():
    with pytest.raises(
        PerturbenchError,
        match=r"unknown metric 'rmse'; choose .*comparisons: .*cosine.*aggregations: .*logfc.*rmse_average.*energy_pca",
    ):
        resolve_metrics(["rmse_average", "rmse"])
    with pytest.raises(
        PerturbenchError, match="unknown metrics profile or metric 'paper9'; choose one of: all, default, paper"
    ):
        resolve_metrics("paper9")


def test_one_metric_needs_no_list():
    assert [metric.name for metric in resolve_metrics("rmse_average")] == ["rmse_average"]


def test_no_metrics():
    with pytest.raises(PerturbenchError, match="no metrics chosen; name some of: rmse_average"):
        resolve_metrics([])


def test_a_metric_and_an_aggregation_can_be_added(registry):
    @register_comparison("worst", better="lower")
    def worst(observed, predicted):
        return np.abs(observed - predicted).max(axis=-1)

    @register_aggregation("delta")
    def delta(means, control_means):
        return means - control_means

    known = available_metrics()
    assert {"worst_average", "worst_rank_logfc", "worst_rank_delta", "rmse_delta"} <= set(known)
    assert known["worst_delta"].better == "lower"
