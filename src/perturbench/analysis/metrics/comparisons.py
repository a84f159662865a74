"""Comparisons of an observed with a predicted aggregate, along the last axis."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from perturbench.analysis.metrics.registry import register_comparison

_PAPER = "paper, section 4 and appendix C"


def squared_distances(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return squared Euclidean distances of predictions (rows) to observations (columns), ``(n, n)``."""
    # |a - b|^2 = |a|^2 + |b|^2 - 2ab takes one matrix product. Centring first keeps the terms small, so that their
    # difference loses little to rounding; values that rounding makes negative are set to 0.
    centre = observed.mean(axis=0)
    a, b = predicted - centre, observed - centre
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * (a @ b.T)
    return np.maximum(squares, 0.0)


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Scale rows to length 1; a zero row becomes NaN."""
    norm = np.linalg.norm(rows, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norm > 0, rows / norm, np.nan)


def centred(rows: np.ndarray) -> np.ndarray:
    """Subtract its mean from each row; a constant row becomes exactly zero."""
    # Rounding errors would otherwise give a constant row a direction, and so a correlation that means nothing.
    constant = np.ptp(rows, axis=-1, keepdims=True) == 0
    return np.where(constant, 0.0, rows - rows.mean(axis=-1, keepdims=True))


def _mean_squares(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return squared_distances(observed, predicted) / observed.shape[1]


def _cosines(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return unit_rows(predicted) @ unit_rows(observed).T


@register_comparison(
    "rmse",
    better="lower",
    pairwise=lambda observed, predicted: np.sqrt(_mean_squares(observed, predicted)),
    source=_PAPER,
)
def rmse(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Compute the root mean squared error over genes."""
    return np.sqrt(mse(observed, predicted))


@register_comparison("mse", better="lower", pairwise=_mean_squares, source=_PAPER)
def mse(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Compute the mean squared error over genes."""
    return ((observed - predicted) ** 2).mean(axis=-1)


@register_comparison(
    "mae",
    better="lower",
    pairwise=lambda observed, predicted: cdist(predicted, observed, "cityblock") / observed.shape[1],
    source=_PAPER,
)
def mae(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Compute the mean absolute error over genes."""
    return np.abs(observed - predicted).mean(axis=-1)


@register_comparison("cosine", better="higher", pairwise=_cosines, source=_PAPER)
def cosine(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Compute the cosine similarity over genes; NaN if either vector is zero."""
    return (unit_rows(observed) * unit_rows(predicted)).sum(axis=-1)


@register_comparison(
    "pearson",
    better="higher",
    pairwise=lambda observed, predicted: _cosines(centred(observed), centred(predicted)),
    source=_PAPER,
)
def pearson(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Compute the Pearson correlation over genes; NaN if either vector is constant."""
    return cosine(centred(observed), centred(predicted))


@register_comparison(
    "spearman",
    better="higher",
    pairwise=lambda observed, predicted: _cosines(centred(_ranked(observed)), centred(_ranked(predicted))),
)
def spearman(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Compute the Spearman correlation over genes, ties averaged; NaN if either vector is constant."""
    return pearson(_ranked(observed), _ranked(predicted))


@register_comparison(
    "r2_score",
    better="higher",
    pairwise=lambda observed, predicted: _explained(squared_distances(observed, predicted), observed),
    source=_PAPER,
)
def r2_score(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Compute the share of the observed variance over genes that is explained; NaN if the observed is constant."""
    return _explained(((observed - predicted) ** 2).sum(axis=-1), observed)


def _explained(residual: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return 1 - residual / total sum of squares, where observations are the truth."""
    total = (centred(observed) ** 2).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, 1 - residual / total, np.nan)


def _ranked(rows: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata  # takes 0.4 s, and most runs do not need it

    return rankdata(rows, axis=-1, nan_policy="propagate")
