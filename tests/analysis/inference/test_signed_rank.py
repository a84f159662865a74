"""The signed-rank test agrees with scipy wherever scipy is exact, and for large samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import PermutationMethod, wilcoxon

from perturbench.analysis.inference.signed_rank import signed_rank_pvalue


@settings(deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=2, max_size=10).filter(lambda values: sum(map(bool, values)) > 1))
def test_with_ties_it_is_the_test_over_all_signs(values):
    difference = np.array(values, dtype=float)
    changed = difference[difference != 0]
    exact = wilcoxon(changed, method=PermutationMethod(n_resamples=np.inf)).pvalue
    assert signed_rank_pvalue(difference) == pytest.approx(exact)


@pytest.mark.parametrize("n", [6, 30, 50])
def test_without_ties_it_is_scipys_exact_test(n):
    difference = np.random.default_rng(n).normal(0.3, 1, n)
    assert signed_rank_pvalue(difference) == pytest.approx(wilcoxon(difference, method="exact").pvalue)


def test_the_exact_and_the_asymptotic_test_meet():
    difference = np.ceil(np.random.default_rng(0).normal(0.1, 1, 50) * 10) / 10 + 0.05  # never zero
    more = np.append(difference, 0.05)
    assert signed_rank_pvalue(difference) == pytest.approx(wilcoxon(difference, method="asymptotic").pvalue, rel=0.1)
    assert signed_rank_pvalue(more) == wilcoxon(more, method="asymptotic").pvalue


def test_no_difference_at_all():
    assert signed_rank_pvalue(np.zeros(5)) == 1.0
