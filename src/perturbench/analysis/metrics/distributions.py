"""Distances between the distributions of observed and predicted cells, in the reference's principal components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from perturbench.analysis.metrics.principal_axes import principal_axes
from perturbench.analysis.metrics.registry import register_metric

if TYPE_CHECKING:
    from perturbench.analysis.profiles import Prediction, Profiles, Reference

#: Largest number of cells of a pair that are compared: time and memory grow with its square.
MAX_CELLS = 1000
#: Smallest number of predicted cells for a distance. One cell has no spread to compare, and the unbiased estimate of a
#: few cells can be gamed by placing them.
MIN_PREDICTED_CELLS = 20


def _projected_cells(profiles: Profiles, reference: Reference) -> list[np.ndarray]:
    """Return the cells of each pair in the space of the principal components; later calls reuse them."""

    def project() -> list[np.ndarray]:
        axes, codes, parts = principal_axes(reference), [], []
        for block_codes, block in profiles.require_cells("a distance between distributions").blocks():
            used = (block_codes >= 0) & (block_codes < len(reference.pairs))
            codes.append(block_codes[used])
            parts.append(axes.project(block[used]))
        flat, points = np.concatenate(codes), np.concatenate(parts)
        order = np.argsort(flat, kind="stable")
        groups = np.split(points[order], np.cumsum(np.bincount(flat, minlength=len(reference.pairs)))[:-1])
        return [_subsample(group) for group in groups]

    return profiles.cached("projected cells", project)


def _subsample(group: np.ndarray) -> np.ndarray:
    if len(group) <= MAX_CELLS:
        return group
    # The seed depends on the number of cells only, so that the same cells always give the same score.
    return group[np.random.default_rng(len(group)).permutation(len(group))[:MAX_CELLS]]


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return squared Euclidean distances between all rows, ``(len(a), len(b))``."""
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * (a @ b.T)
    return np.maximum(squares, 0.0, out=squares)


def _mean_within(matrix: np.ndarray) -> float:
    """Return the mean over pairs of different cells; leaving out the diagonal makes the estimate unbiased."""
    n = len(matrix)
    return float((matrix.sum() - np.trace(matrix)) / (n * (n - 1)))


def _per_pair(reference: Reference, prediction: Prediction, distance: Any) -> np.ndarray:
    values = [
        distance(observed, predicted) if len(observed) > 1 and len(predicted) >= MIN_PREDICTED_CELLS else np.nan
        for observed, predicted in zip(
            _projected_cells(reference, reference), _projected_cells(prediction, reference), strict=True
        )
    ]
    return np.array(values, dtype=float)


@register_metric("energy_pca", better="lower", needs="cells", source="Szekely & Rizzo 2013")
def energy(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Compute the energy distance ``2 E|X-Y| - E|X-X'| - E|Y-Y'|``.

    The estimates within each side are unbiased, so that equal distributions give values around 0, some below. NaN with
    fewer than 20 predicted cells or two observed ones.
    """

    def distance(x: np.ndarray, y: np.ndarray) -> float:
        between = np.sqrt(_squared_distances(x, y)).mean()
        return (
            2 * between
            - _mean_within(np.sqrt(_squared_distances(x, x)))
            - _mean_within(np.sqrt(_squared_distances(y, y)))
        )

    return _per_pair(reference, prediction, distance)


@register_metric("mmd_pca", better="lower", needs="cells", source="Gretton et al. 2012, eq. 3")
def mmd(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Compute the squared maximum mean discrepancy, unbiased, averaged over five Gaussian kernels.

    The kernels are 1/4 to 4 times as wide as the median squared distance between the observed cells of the pair; if the
    median included predicted cells, a prediction could choose its own scale. NaN with fewer than 20 predicted cells or
    two observed ones.
    """

    def distance(x: np.ndarray, y: np.ndarray) -> float:
        xx, xy, yy = _squared_distances(x, x), _squared_distances(x, y), _squared_distances(y, y)
        median = np.median(xx[np.triu_indices(len(x), 1)])
        if median == 0:
            return np.nan
        values = []
        for factor in (0.25, 0.5, 1.0, 2.0, 4.0):
            kernels = [np.exp(-square / (factor * median)) for square in (xx, yy, xy)]
            values.append(_mean_within(kernels[0]) + _mean_within(kernels[1]) - 2 * kernels[2].mean())
        return float(np.mean(values))

    return _per_pair(reference, prediction, distance)
