"""Aggregations by their definition."""

import numpy as np
import pytest
from tests.analysis.predictions import KEYS, predict_means, predict_observed, values_of

from perturbench.analysis.metrics.aggregations import logfc_exp
from perturbench.analysis.profiles import Reference
from perturbench.errors import PerturbenchError


def test_scaled_cells_do_not_look_perfect_to_scaled(cells, reference):
    """The published code z-scores a prediction with its own mean and sd: twice too large looked perfect."""
    assert (values_of(predict_observed(cells, reference, lambda x, obs: 2 * x), reference, "rmse_scaled") > 0.1).all()


def test_a_negative_reference_is_refused_where_a_logarithm_is_taken(cells):
    shifted = cells.copy()
    shifted.X = shifted.X.toarray() - 1.5
    reference = Reference(shifted, KEYS)
    with pytest.raises(PerturbenchError, match=r"the reference has negative means in .* genes"):
        values_of(predict_means(reference, reference.means), reference, "cosine_logfc")


def test_logfc_exp_by_hand(reference):
    half = predict_means(reference, reference.means / 2)
    expected = np.log2((np.expm1(reference.means[0] / 2) + 0.1) / (np.expm1(reference.control_means[0]) + 0.1))
    assert logfc_exp(half, reference)[0] == pytest.approx(expected)
