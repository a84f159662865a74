"""Ranks, which show whether a model can tell the perturbations of a state apart."""

from __future__ import annotations

from typing import Literal

import numpy as np

#: Two values tie if they differ by less than this fraction of a typical value: float32 predictions resolve no more.
TIE_TOLERANCE = 1e-7
#: Two predictions are equal if no gene differs by more than this fraction of the largest value.
ROW_TOLERANCE = 2e-6


def rank_of_matches(matrix: np.ndarray, better: Literal["lower", "higher"]) -> np.ndarray:
    """Rank the prediction of each perturbation among all predictions of its state (Eq. 2 of the paper).

    Parameters
    ----------
    matrix
        Comparison of prediction ``j`` with observation ``i`` at ``[j, i]``, ``(n, n)``. Its transpose gives Eq. 3,
        which ranks the observations for each prediction.
    better
        Whether lower (distances) or higher values (similarities) are nearer.

    Returns
    -------
    ``(n,)``: the share of the other predictions that are nearer to the observation than the right one; ties count half.
    0 is perfect and 0.5 is random. A model that predicts the same for every perturbation gets exactly 0.5. NaN for
    n = 1. An undefined similarity, such as the cosine of a zero vector, counts as 0: no direction at all. An undefined
    distance counts as infinite.
    """
    n = len(matrix)
    if n < 2:
        return np.full(n, np.nan)
    distance = np.where(np.isnan(matrix), np.inf, matrix) if better == "lower" else -np.nan_to_num(matrix, nan=0.0)
    matching = np.diagonal(distance)
    with np.errstate(invalid="ignore"):  # infinity - infinity
        gap = distance - matching
        # The median is robust: one wild prediction must not widen the tolerance until all others tie.
        typical = np.ma.median(np.ma.masked_invalid(np.abs(distance)), axis=0).filled(0.0)
        if better == "higher":  # similarities are of order 1 even where they happen to be near 0
            typical = np.maximum(typical, 1.0)
        tie = (distance == matching) | (np.isfinite(gap) & (np.abs(gap) <= TIE_TOLERANCE * typical))
    np.fill_diagonal(tie, False)
    nearer = (gap < 0) & ~tie
    return (nearer.sum(axis=0) + 0.5 * tie.sum(axis=0)) / (n - 1)


def merge_nearly_equal_rows(rows: np.ndarray) -> np.ndarray:
    """Make rows exactly equal that differ by no more than float32 rounding, ``(n, n_features)``.

    A collapsed model predicts the same for every perturbation only up to rounding. Without this step, rounding errors
    would rank its predictions at random.
    """
    tolerance = ROW_TOLERANCE * np.abs(rows).max(initial=0.0)
    direction = np.random.default_rng(0).normal(size=rows.shape[1])
    position = rows @ direction
    order = np.argsort(position, kind="stable")
    # Equal rows are neighbours along any direction. Comparing only neighbours gene by gene avoids all n^2 pairs.
    near = np.diff(position[order]) <= tolerance * np.abs(direction).sum()
    if not near.any():
        return rows
    merged = rows.copy()
    for before, after in zip(order[:-1][near], order[1:][near], strict=True):
        if np.abs(merged[before] - rows[after]).max() <= tolerance:
            merged[after] = merged[before]
    return merged
