"""The registry of metrics.

Most metrics compare two aggregates: ``<comparison>_<aggregation>`` (``rmse_average``), or rank that comparison among
all predictions of the state, ``<comparison>_rank_<aggregation>`` and ``<comparison>_rank_transposed_<aggregation>``.
Others are functions of both sides of their own. Add one with a decorated function; its module goes into
``evaluation.plugins``::

    @register_comparison("max_error", better="lower")
    def max_error(observed, predicted):
        return np.abs(observed - predicted).max(axis=-1)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import yaml

from perturbench.analysis.metrics.ranks import rank_of_matches, same_rows
from perturbench.analysis.profiles import Prediction, Profiles, Reference
from perturbench.errors import PerturbenchError, listing, require_choice

Better = Literal["lower", "higher"]
Needs = Literal["means", "cells"]
RowFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]
AggregationFunction = Callable[[Profiles, Reference], np.ndarray]
MetricFunction = Callable[[Reference, Prediction], Any]

#: Where the metrics of this package are registered; imported when a metric is first asked for.
_MODULES = ("comparisons", "aggregations", "effects", "differential_expression", "distributions", "collapse")


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
    """What is compared: a function of one side and the reference.

    Attributes
    ----------
    name
        Its name, the last part of a metric's.
    function
        ``side, reference -> (n_pairs, n_features)``.
    needs
        Whether means suffice or cells are needed.
    source
        Where it is defined.
    """

    name: str
    function: AggregationFunction
    needs: Needs = "means"
    source: str = ""

    def of(self, side: Profiles, reference: Reference) -> np.ndarray:
        """Return the aggregate of a side; computed once."""
        return side.remember(("aggregation", self.name), lambda: self.function(side, reference))


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes
    ----------
    name
        The name in tables.
    better
        Whether lower or higher is better.
    function
        ``reference, prediction -> (n_pairs,)``, or one value of the whole split.
    needs
        Whether means suffice or cells are needed.
    source
        Where it is defined.
    """

    name: str
    better: Better
    function: MetricFunction
    needs: Needs = "means"
    source: str = ""

    @property
    def is_rank(self) -> bool:
        """Whether it is a rank, for which 0.5 is random."""
        return "_rank_" in self.name


_COMPARISONS: dict[str, Comparison] = {}
_AGGREGATIONS: dict[str, Aggregation] = {}
_OTHERS: dict[str, Metric] = {}


def register_comparison(
    name: str, *, better: Better, pairwise: RowFunction | None = None, source: str = ""
) -> Callable[[RowFunction], RowFunction]:
    """Register a function of observed and predicted aggregates as a metric, and as rank metrics.

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
    name: str, *, needs: Needs = "means", source: str = ""
) -> Callable[[AggregationFunction], AggregationFunction]:
    """Register a function of one side and the reference as an aggregation, see :class:`Aggregation`."""

    def register(function: AggregationFunction) -> AggregationFunction:
        _AGGREGATIONS[name] = Aggregation(name, function, needs, source)
        return function

    return register


def register_metric(
    name: str, *, better: Better, needs: Needs = "means", source: str = ""
) -> Callable[[MetricFunction], MetricFunction]:
    """Register a function of the reference and a prediction as a metric, see :class:`Metric`."""

    def register(function: MetricFunction) -> MetricFunction:
        _OTHERS[name] = Metric(name, better, function, needs, source)
        return function

    return register


def available_metrics() -> dict[str, Metric]:
    """Return every registered metric by name."""
    for module in _MODULES:
        import_module(f"perturbench.analysis.metrics.{module}")
    metrics = []
    for comparison in _COMPARISONS.values():
        for aggregation in _AGGREGATIONS.values():
            fit = partial(_fit, comparison, aggregation)
            rank = partial(_rank, comparison, aggregation, False)
            transposed = partial(_rank, comparison, aggregation, True)
            needs, source = aggregation.needs, comparison.source or aggregation.source
            start, end = comparison.name, aggregation.name
            metrics += [
                Metric(f"{start}_{end}", comparison.better, fit, needs, source),
                Metric(f"{start}_rank_{end}", "lower", rank, needs, source),
                Metric(f"{start}_rank_transposed_{end}", "lower", transposed, needs, source),
            ]
    return {metric.name: metric for metric in metrics} | _OTHERS


def find_metric(name: str) -> Metric:
    """Return the metric of a name.

    Raises
    ------
    PerturbenchError
        If there is none, with the names there are.
    """
    known = available_metrics()
    if name not in known:
        aggregations, comparisons = listing(_AGGREGATIONS, 50), listing(_COMPARISONS, 50)
        raise PerturbenchError(
            f"unknown metric '{name}'; choose <comparison>_<aggregation>, <comparison>_rank_<aggregation> or "
            f"<comparison>_rank_transposed_<aggregation> (comparisons: {comparisons}; aggregations: {aggregations}; "
            f"for example rmse_average), or one of: {listing(_OTHERS, 50)}"
        )
    return known[name]


def find_comparison(name: str) -> Comparison:
    """Return the comparison of a name, for example ``rmse``.

    Raises
    ------
    PerturbenchError
        If there is none, with the names there are.
    """
    available_metrics()
    require_choice("comparison", name, _COMPARISONS)
    return _COMPARISONS[name]


@cache
def profiles() -> dict[str, list[str]]:
    """Return the named lists of metrics of ``profiles.yml``."""
    return yaml.safe_load(files("perturbench.analysis.metrics").joinpath("profiles.yml").read_text(encoding="utf-8"))


def resolve_metrics(metrics: str | list[str] | tuple[str, ...]) -> list[Metric]:
    """Return the metrics of a profile's name or of a list of names.

    Parameters
    ----------
    metrics
        Name of a profile (``default``, ``paper``, ``all``), of a metric, or names of metrics.

    Raises
    ------
    PerturbenchError
        If a name is unknown, or there is none.
    """
    if isinstance(metrics, str):
        known = profiles()
        if metrics not in known and metrics not in available_metrics():
            require_choice("metrics profile or metric", metrics, known)
        metrics = list(known.get(metrics, [metrics]))
    if not metrics:
        raise PerturbenchError(f"no metrics chosen; name some of: {listing(available_metrics(), 50)}.")
    return [find_metric(name) for name in dict.fromkeys(metrics)]


def _fit(comparison: Comparison, aggregation: Aggregation, reference: Reference, prediction: Prediction) -> np.ndarray:
    observed, predicted = aggregation.of(reference, reference), aggregation.of(prediction, reference)
    return np.asarray(comparison.rows(observed, predicted), dtype=float)


def _rank(
    comparison: Comparison,
    aggregation: Aggregation,
    transposed: bool,
    reference: Reference,
    prediction: Prediction,
) -> np.ndarray:
    observed, predicted = aggregation.of(reference, reference), aggregation.of(prediction, reference)
    values = np.full(len(observed), np.nan)
    present = ~(np.isnan(predicted).any(axis=1) | np.isnan(observed).any(axis=1))
    for state in range(len(reference.states)):
        here = np.flatnonzero((reference.state_of_pair == state) & present)
        if len(here):
            make = partial(comparison.matrix, observed[here], same_rows(predicted[here]))
            matrix = prediction.remember(("matrix", comparison.name, aggregation.name, state), make)
            values[here] = rank_of_matches(matrix.T if transposed else matrix, comparison.better)
    return values
