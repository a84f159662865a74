"""Distances between distributions of cells, in the reference's principal component space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from perturbench.analysis.metrics.principal_axes import principal_axes
from perturbench.analysis.metrics.registry import register_metric

if TYPE_CHECKING:
    from perturbench.analysis.profiles import Prediction, Profiles, Reference

#: At most this many cells of a pair are compared: distances between all cells grow with their square.
MAX_CELLS = 1000
#: Fewer predicted cells are no distribution: one cell has no spread to compare, a few can be placed to win.
MIN_PREDICTED_CELLS = 20


def _projected(side: Profiles, reference: Reference) -> list[np.ndarray]:
    """Return the projected cells of each pair; computed once."""

    def make() -> list[np.ndarray]:
        axes, codes, parts = principal_axes(reference), [], []
        for block_codes, block in side.require_cells("a distance between distributions").blocks():
            used = (block_codes >= 0) & (block_codes < len(reference.pairs))
            codes.append(block_codes[used])
            parts.append(axes.project(block[used]))
        flat, points = np.concatenate(codes), np.concatenate(parts)
        order = np.argsort(flat, kind="stable")
        groups = np.split(points[order], np.cumsum(np.bincount(flat, minlength=len(reference.pairs)))[:-1])
        return [_sampled(group) for group in groups]

    return side.remember("projected", make)


def _sampled(group: np.ndarray) -> np.ndarray:
    if len(group) <= MAX_CELLS:
        return group
    return group[np.random.default_rng(len(group)).permutation(len(group))[:MAX_CELLS]]


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return squared Euclidean distances between all rows, ``(len(a), len(b))``."""
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * (a @ b.T)
    return np.maximum(squares, 0.0, out=squares)


def _within(square: np.ndarray) -> float:
    """Return the mean over pairs of different cells (unbiased)."""
    n = len(square)
    return float((square.sum() - np.trace(square)) / (n * (n - 1)))


def _per_pair(reference: Reference, prediction: Prediction, distance: Any) -> np.ndarray:
    values = [
        distance(x, y) if len(x) > 1 and len(y) >= MIN_PREDICTED_CELLS else np.nan
        for x, y in zip(_projected(reference, reference), _projected(prediction, reference), strict=True)
    ]
    return np.array(values, dtype=float)


@register_metric("energy_pca", better="lower", needs="cells", source="Szekely & Rizzo 2013")
def energy(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Energy distance ``2 E|X-Y| - E|X-X'| - E|Y-Y'|``, within-terms unbiased; may be slightly below 0.

    NaN with fewer than 20 predicted cells or two observed ones.
    """

    def distance(x: np.ndarray, y: np.ndarray) -> float:
        between = np.sqrt(_distances(x, y)).mean()
        return 2 * between - _within(np.sqrt(_distances(x, x))) - _within(np.sqrt(_distances(y, y)))

    return _per_pair(reference, prediction, distance)


@register_metric("mmd_pca", better="lower", needs="cells", source="Gretton et al. 2012, eq. 3")
def mmd(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Squared maximum mean discrepancy, unbiased; mean over Gaussian kernels of 1/4 to 4 times the median distance.

    The median is that of the observed cells of the pair, so that a prediction cannot choose its own scale. NaN with
    fewer than 20 predicted cells or two observed ones.
    """

    def distance(x: np.ndarray, y: np.ndarray) -> float:
        xx, xy, yy = _distances(x, x), _distances(x, y), _distances(y, y)
        median = np.median(xx[np.triu_indices(len(x), 1)])
        if median == 0:
            return np.nan
        values = []
        for factor in (0.25, 0.5, 1.0, 2.0, 4.0):
            kernels = [np.exp(-square / (factor * median)) for square in (xx, yy, xy)]
            values.append(_within(kernels[0]) + _within(kernels[1]) - 2 * kernels[2].mean())
        return float(np.mean(values))

    return _per_pair(reference, prediction, distance)
