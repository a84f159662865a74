"""Distances between the distributions of observed and predicted cells, in the reference's principal components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from perturbench.analysis.metrics.principal_axes import principal_axes
from perturbench.analysis.metrics.ranks import rank_of_matches
from perturbench.analysis.metrics.registry import register_metric
from perturbench.data.sparse import row_slices

if TYPE_CHECKING:
    from perturbench.analysis.profiles import Prediction, Profiles, Reference

#: Largest number of cells of a pair in ``energy_pca`` and ``mmd_rbf_pca``: their memory grows with its square.
MAX_CELLS = 1000
#: Largest number of cells of a pair in ``mmd_rank_pca``, which compares every prediction with every observation.
RANK_CELLS = 100
#: Smallest number of predicted cells for a distance. One cell has no spread to compare, and the unbiased estimate of a
#: few cells can be gamed by placing them.
MIN_PREDICTED_CELLS = 20
#: Cells whose distances to all others are in memory at a time.
_BLOCK = 512


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
        return np.split(points[order], np.cumsum(np.bincount(flat, minlength=len(reference.pairs)))[:-1])

    return profiles.cached("projected cells", project)


def _subsample(cells: np.ndarray, limit: int) -> np.ndarray:
    """Return at most ``limit`` of the cells ``(n_cells, n_components)``, drawn at random."""
    if len(cells) <= limit:
        return cells
    # The seed depends on the number of cells only, so that the same cells always give the same score.
    return cells[np.random.default_rng(len(cells)).permutation(len(cells))[:limit]]


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return squared Euclidean distances between all rows, ``(len(a), len(b))``."""
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * (a @ b.T)
    return np.maximum(squares, 0.0, out=squares)


def mean_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean Euclidean distance between the cells of two sets; memory grows with the number of cells only."""
    total = sum(np.sqrt(_squared_distances(a[rows], b)).sum() for rows in row_slices(len(a), _BLOCK))
    return float(total / (len(a) * len(b)))


def _mean_within(matrix: np.ndarray) -> float:
    """Return the mean over pairs of different cells; leaving out the diagonal makes the estimate unbiased."""
    n = len(matrix)
    return float((matrix.sum() - np.trace(matrix)) / (n * (n - 1)))


def _comparable(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Return a mask of the pairs with at least two observed cells and 20 predicted ones."""
    observed, predicted = _projected_cells(reference, reference), _projected_cells(prediction, reference)
    enough = [len(x) > 1 and len(y) >= MIN_PREDICTED_CELLS for x, y in zip(observed, predicted, strict=True)]
    return np.array(enough, dtype=bool)


def _per_pair(reference: Reference, prediction: Prediction, distance: Any) -> np.ndarray:
    """Return a distance between subsamples of the observed and the predicted cells of each pair."""
    values = np.full(len(reference.pairs), np.nan)
    observed, predicted = _projected_cells(reference, reference), _projected_cells(prediction, reference)
    for pair in np.flatnonzero(_comparable(reference, prediction)):
        values[pair] = distance(_subsample(observed[pair], MAX_CELLS), _subsample(predicted[pair], MAX_CELLS))
    return values


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


@register_metric("mmd_pca", better="lower", needs="cells", source="paper, section 4 and appendix C")
def mmd(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Compute the paper's MMD, ``E|X-Y| - E|X-X'| / 2 - E|Y-Y'| / 2`` of all cells of a pair.

    This is the squared maximum mean discrepancy with the kernel -|x - y|, and half the energy distance. The estimates
    within each side are biased, as in the paper's code: a cell's distance to itself counts. So values are never below
    0, and two samples of one distribution are above it. NaN with fewer than 20 predicted cells or two observed ones.
    """
    observed, predicted = _projected_cells(reference, reference), _projected_cells(prediction, reference)
    within = reference.cached("mean distances", lambda: [mean_distance(x, x) if len(x) else np.nan for x in observed])
    values = np.full(len(observed), np.nan)
    for pair in np.flatnonzero(_comparable(reference, prediction)):
        x, y = observed[pair], predicted[pair]
        values[pair] = max(mean_distance(x, y) - (within[pair] + mean_distance(y, y)) / 2, 0.0)
    return values


@register_metric("mmd_rank_pca", better="lower", needs="cells", source="paper, Eq. 2")
def mmd_rank(reference: Reference, prediction: Prediction, n_cells: int = RANK_CELLS) -> np.ndarray:
    """Rank the right prediction among all predictions of the state by the MMD to the observed cells.

    0 is perfect and 0.5 is random, see :func:`~perturbench.analysis.metrics.ranks.rank_of_matches`. Pairs with fewer
    than 20 predicted cells or two observed ones take no part.

    Parameters
    ----------
    reference, prediction
        The observed and the predicted side.
    n_cells
        Largest number of cells of a pair that are compared, drawn at random. The time grows with the square of the
        number of cells of a state: 200 perturbations with 100 cells each take about 6 seconds.
    """
    ranks = np.full(len(reference.pairs), np.nan)
    comparable = _comparable(reference, prediction)
    sides = [
        [_subsample(cells, n_cells) for cells in _projected_cells(side, reference)] for side in (reference, prediction)
    ]
    for state in range(len(reference.states)):
        pairs = reference.pairs_of_state(state)
        pairs = pairs[comparable[pairs]]
        if len(pairs) > 1:
            observed, predicted = ([side[pair] for pair in pairs] for side in sides)
            ranks[pairs] = rank_of_matches(_mmd_matrix(observed, predicted), "lower")
    return ranks


def _mmd_matrix(observed: list[np.ndarray], predicted: list[np.ndarray]) -> np.ndarray:
    """Return the MMD of prediction ``j`` and observation ``i`` at ``[j, i]``, ``(n, n)``."""
    starts = np.cumsum([0, *(len(cells) for cells in observed[:-1])])
    points, sizes = np.concatenate(observed), np.array([len(cells) for cells in observed])
    between = np.array(
        [
            np.add.reduceat(np.sqrt(_squared_distances(cells, points)).mean(axis=0), starts) / sizes
            for cells in predicted
        ]
    )
    within = [np.array([mean_distance(cells, cells) for cells in side]) for side in (predicted, observed)]
    return between - within[0][:, None] / 2 - within[1][None, :] / 2


@register_metric("mmd_rbf_pca", better="lower", needs="cells", source="Gretton et al. 2012, eq. 3")
def mmd_rbf(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Compute the squared maximum mean discrepancy, unbiased, averaged over five Gaussian kernels.

    The kernels are 1/4 to 4 times as wide as the median squared distance between the observed cells of the pair; if the
    median included predicted cells, a prediction could choose its own scale. NaN with fewer than 20 predicted cells or
    two observed ones. ``mmd_pca`` is the paper's MMD.
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
