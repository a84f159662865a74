"""The registry of metrics: aggregations of cells, and functions that compare two aggregates.

A metric's name is ``<metric>_<aggregation>`` or ``<metric>_rank_<aggregation>``, as the paper's code writes them.
Add one with a decorated function; its module goes into ``evaluation.plugins``::

    @register_metric("max_error", better="lower")
    def max_error(observed, predicted):
        return np.abs(observed - predicted).max(axis=-1)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from perturbench.errors import PerturbenchError, listing, require_choice

Better = Literal["lower", "higher"]
RowFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]
#: Two values closer than this fraction of the typical one are a tie: float32 predictions tell no more.
TIE = 1e-6


@dataclass(frozen=True)
class Comparison:
    """A function of an observed and a predicted aggregate.

    Attributes
    ----------
    name
        Its name, the first part of a metric's.
    better
        Whether lower or higher values are better.
    rows
        ``(..., n_genes), (..., n_genes) -> (...)``: observed and predicted, compared along the last axis.
    pairwise
        Optional fast ``(n, n_genes), (n, n_genes) -> (n, n)``: value of prediction ``j`` for observation ``i`` at
        ``[j, i]``.
    source
        Where it is defined.
    """

    name: str
    better: Better
    rows: RowFunction
    pairwise: RowFunction | None = None
    source: str = ""

    def matrix(self, observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Return the value of every prediction (rows) for every observation (columns), ``(n, n)``."""
        if self.pairwise is not None:
            return self.pairwise(observed, predicted)
        return np.stack([self.rows(row[None], predicted) for row in observed], axis=1)


@dataclass(frozen=True)
class Aggregation:
    """What is compared: a function of mean expression and the mean of the state's observed controls.

    Attributes
    ----------
    name
        Its name, the last part of a metric's.
    function
        ``(n, n_genes), (n, n_genes) -> (n, n_genes)``: group means, and control means of each group's state.
    needs_log
        Whether it is undefined for negative means.
    source
        Where it is defined.
    """

    name: str
    function: RowFunction
    needs_log: bool = False
    source: str = ""


@dataclass(frozen=True)
class Metric:
    """A comparison of an aggregation, or its rank among all predictions of the state."""

    comparison: Comparison
    aggregation: Aggregation
    rank: bool

    @property
    def name(self) -> str:
        """The name in tables."""
        return f"{self.comparison.name}_{'rank_' if self.rank else ''}{self.aggregation.name}"

    @property
    def better(self) -> Better:
        """Whether lower or higher is better; a rank of 0 is perfect."""
        return "lower" if self.rank else self.comparison.better


_COMPARISONS: dict[str, Comparison] = {}
_AGGREGATIONS: dict[str, Aggregation] = {}
PROFILES: dict[str, tuple[str, ...]] = {
    "default": ("rmse_average", "rmse_rank_average", "cosine_logfc", "cosine_rank_logfc"),
}


def register_metric(
    name: str, *, better: Better, pairwise: RowFunction | None = None, source: str = ""
) -> Callable[[RowFunction], RowFunction]:
    """Register a function of observed and predicted aggregates as a metric, and as a rank metric.

    Parameters
    ----------
    name
        First part of the metric's name.
    better
        Whether ``lower`` or ``higher`` is better.
    pairwise
        Optional fast form for ranks, see :class:`Comparison`.
    source
        Where it is defined.
    """

    def register(function: RowFunction) -> RowFunction:
        _COMPARISONS[name] = Comparison(name, better, function, pairwise, source)
        return function

    return register


def register_aggregation(
    name: str, *, needs_log: bool = False, source: str = ""
) -> Callable[[RowFunction], RowFunction]:
    """Register a function of group means and control means as an aggregation, see :class:`Aggregation`."""

    def register(function: RowFunction) -> RowFunction:
        _AGGREGATIONS[name] = Aggregation(name, function, needs_log, source)
        return function

    return register


def find_metric(name: str) -> Metric:
    """Return the metric of a name.

    Raises
    ------
    PerturbenchError
        If there is none, with the names there are.
    """
    known = available_metrics()
    require_choice("metric", name, known)
    return known[name]


def available_metrics() -> dict[str, Metric]:
    """Return every registered metric by name."""
    metrics = [
        Metric(comparison, aggregation, rank)
        for comparison in _COMPARISONS.values()
        for aggregation in _AGGREGATIONS.values()
        for rank in (False, True)
    ]
    return {metric.name: metric for metric in metrics}


def resolve_metrics(metrics: str | list[str] | tuple[str, ...]) -> list[Metric]:
    """Return the metrics of a profile's name or of a list of names.

    Raises
    ------
    PerturbenchError
        If a name is unknown, or there is none.
    """
    if isinstance(metrics, str):
        require_choice("metrics profile", metrics, PROFILES)
        metrics = PROFILES[metrics]
    if not metrics:
        raise PerturbenchError(f"no metrics chosen; name some of: {listing(available_metrics(), 50)}.")
    return [find_metric(name) for name in dict.fromkeys(metrics)]


def rank_of_matches(matrix: np.ndarray, better: Better) -> np.ndarray:
    """Rank each right prediction among all predictions of a state (Eq. 2 of the paper).

    Parameters
    ----------
    matrix
        Value of prediction ``j`` for observation ``i`` at ``[j, i]``, ``(n, n)``.
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
        tie = (distance == own) | (np.isfinite(gap) & (np.abs(gap) <= TIE * typical))
    np.fill_diagonal(tie, False)
    nearer = (gap < 0) & ~tie
    return (nearer.sum(axis=0) + 0.5 * tie.sum(axis=0)) / (n - 1)


def _squared_distances(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return squared Euclidean distances of predictions (rows) to observations (columns), by one product."""
    centre = observed.mean(axis=0)
    a, b = predicted - centre, observed - centre
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * (a @ b.T)
    return np.maximum(squares, 0.0)


def _unit_rows(rows: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(rows, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norm > 0, rows / norm, np.nan)


@register_metric(
    "rmse",
    better="lower",
    pairwise=lambda observed, predicted: np.sqrt(_squared_distances(observed, predicted) / observed.shape[1]),
    source="paper, section 4",
)
def rmse(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Root mean squared error over genes."""
    return np.sqrt(((observed - predicted) ** 2).mean(axis=-1))


@register_metric(
    "cosine",
    better="higher",
    pairwise=lambda observed, predicted: _unit_rows(predicted) @ _unit_rows(observed).T,
    source="paper, section 4",
)
def cosine(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Cosine similarity over genes; NaN with a zero vector."""
    return (_unit_rows(observed) * _unit_rows(predicted)).sum(axis=-1)


@register_aggregation("average", source="paper, section 4")
def average(means: np.ndarray, control_means: np.ndarray) -> np.ndarray:
    """Mean of log-normalised expression over cells."""
    return means


@register_aggregation("logfc", needs_log=True, source="paper, section 4")
def logfc(means: np.ndarray, control_means: np.ndarray) -> np.ndarray:
    """Log2 fold change against the observed controls of the state, pseudocount 0.1, on log-normalised means."""
    return np.log2(means + 0.1) - np.log2(control_means + 0.1)
