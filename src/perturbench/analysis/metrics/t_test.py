"""The paper's t-test for differential expression: every gene of every pair against the controls of its state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtr

if TYPE_CHECKING:
    from perturbench.analysis.profiles import Profiles, Reference
    from perturbench.data.group_sums import GroupSums

#: A variance below this fraction of the mean square is rounding error of float32 values, and counts as 0.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class TTest:
    """Results of the tests, ``(n_pairs, n_genes)`` each; NaN for pairs with fewer than two cells.

    Attributes
    ----------
    scores
        Welch's t, as in scanpy's ``rank_genes_groups(method="t-test_overestim_var")``: the controls count as if they
        were no more cells than the pair has, which overestimates the error of their mean. 0 where the means are equal,
        and where neither group varies: t would be infinite, and the paper's code sets it to 0.
    degrees_of_freedom
        Degrees of freedom of each t; NaN where neither group varies.
    """

    scores: np.ndarray
    degrees_of_freedom: np.ndarray

    def adjusted_pvalues(self) -> np.ndarray:
        """Return two-sided p-values, adjusted over the genes of each pair by Benjamini and Hochberg."""
        from scipy.stats import false_discovery_control  # takes 0.4 s, and most runs do not need it

        pvalues = 2 * stdtr(self.degrees_of_freedom, -np.abs(self.scores))
        tested = ~np.isnan(self.scores).any(axis=1)
        adjusted = np.full(pvalues.shape, np.nan)
        # Without variance, t is 0 and p is 1.
        adjusted[tested] = false_discovery_control(np.nan_to_num(pvalues[tested], nan=1.0), axis=1)
        return adjusted


def t_test(profiles: Profiles, reference: Reference) -> TTest:
    """Test each pair's cells against the observed control cells of its state, gene by gene; later calls reuse it."""
    return profiles.cached("t-test", lambda: _t_test(profiles, reference))


def _t_test(profiles: Profiles, reference: Reference) -> TTest:
    pairs = np.arange(len(reference.pairs))
    n, means, variances = _moments(profiles.moments, pairs)  # type: ignore[attr-defined]
    _, control_means, control_variances = _moments(reference.moments, len(pairs) + reference.state_of_pair)
    both = variances + control_variances
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = np.where(both > 0, (means - control_means) / np.sqrt(both / n), 0.0)
        degrees = (n - 1) * both**2 / (variances**2 + control_variances**2)
    scores[n[:, 0] < 2] = np.nan
    return TTest(scores, degrees)


def _moments(sums: GroupSums, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the number of cells ``(n, 1)`` of some groups, and their means and unbiased variances ``(n, n_genes)``.

    The variance of a single cell is 0, so that a state with one control cell can be tested.
    """
    assert sums.squares is not None
    n = sums.counts[groups, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        means, squares = sums.sums[groups] / n, sums.squares[groups] / n
        variances = (squares - means**2) * (n / np.maximum(n - 1, 1))
    return n, means, np.where(variances > _ROUNDING * squares, variances, 0.0)
