"""Ranks: whether a model can tell perturbations apart."""

from __future__ import annotations

from typing import Literal

import numpy as np

#: Two values closer than this fraction of the typical one are a tie: predictions are float32 and tell no more.
TIE = 1e-7
#: Two rows are the same if no value differs by more than this fraction of the largest.
SAME = 2e-6


def rank_of_matches(matrix: np.ndarray, better: Literal["lower", "higher"]) -> np.ndarray:
    """Rank each right prediction among all predictions of a state (Eq. 2 of the paper).

    Parameters
    ----------
    matrix
        Value of prediction ``j`` for observation ``i`` at ``[j, i]``, ``(n, n)``; its transpose gives Eq. 3, which
        ranks observations per prediction.
    better
        Whether lower or higher values are nearer.

    Returns
    -------
    ``(n,)``: the share of other predictions that are nearer to the observation, ties counting one half. 0 is perfect,
    0.5 is random; a model that predicts the same for every perturbation gets exactly 0.5. NaN for n = 1. An undefined
    similarity (the cosine of a zero vector) ranks as 0, no direction at all; an undefined distance as the farthest.
    """
    n = len(matrix)
    if n < 2:
        return np.full(n, np.nan)
    distance = np.where(np.isnan(matrix), np.inf, matrix) if better == "lower" else -np.nan_to_num(matrix, nan=0.0)
    own = np.diagonal(distance)
    with np.errstate(invalid="ignore"):  # infinite - infinite
        gap = distance - own
        typical = np.ma.median(np.ma.masked_invalid(np.abs(distance)), axis=0).filled(0.0)
        if better == "higher":  # similarities are of the order of 1, also where they happen to be near 0
            typical = np.maximum(typical, 1.0)
        tie = (distance == own) | (np.isfinite(gap) & (np.abs(gap) <= TIE * typical))
    np.fill_diagonal(tie, False)
    nearer = (gap < 0) & ~tie
    return (nearer.sum(axis=0) + 0.5 * tie.sum(axis=0)) / (n - 1)


def same_rows(rows: np.ndarray) -> np.ndarray:
    """Return rows with those that differ by no more than float32 tells made exactly equal, ``(n, n_features)``.

    A model that predicts the same for every perturbation does so up to the rounding of its arithmetic; without this the
    rounding would rank its predictions at random.
    """
    tolerance = SAME * np.abs(rows).max(initial=0.0)
    direction = np.random.default_rng(0).normal(size=rows.shape[1])
    place = rows @ direction
    order = np.argsort(place, kind="stable")
    # Equal rows are near each other along any direction; only such neighbours are compared gene by gene.
    near = np.diff(place[order]) <= tolerance * np.abs(direction).sum()
    if not near.any():
        return rows
    same = rows.copy()
    for before, after in zip(order[:-1][near], order[1:][near], strict=True):
        if np.abs(same[before] - rows[after]).max() <= tolerance:
            same[after] = same[before]
    return same
