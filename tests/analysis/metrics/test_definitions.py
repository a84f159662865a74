"""What a comparison and an aggregation make together."""

import numpy as np

from perturbench.analysis import register_comparison
from perturbench.analysis.metrics.registry import find_comparison, find_metric


def test_matrix_without_a_fast_form(registry):
    @register_comparison("worst", better="lower")
    def worst(observed, predicted):
        return np.abs(observed - predicted).max(axis=-1)

    observed, predicted = np.array([[0.0, 0.0], [1.0, 5.0]]), np.array([[0.0, 1.0], [1.0, 1.0]])
    assert find_comparison("worst").matrix(observed, predicted).tolist() == [[1, 4], [1, 4]]


def test_direction():
    assert find_metric("rmse_average").better == "lower"
    assert find_metric("cosine_logfc").better == "higher"
    assert find_metric("rmse_rank_average").better == "lower"
    assert find_metric("cosine_rank_logfc").better == "lower"
