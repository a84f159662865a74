"""The registry of metrics: register a function, find a metric by its name.

Most metrics compare two aggregates. A comparison (``rmse``) and an aggregation (``average``) make three metrics:
``rmse_average``, and ``rmse_rank_average`` and ``rmse_rank_transposed_average``, which rank that comparison among all
predictions of a state. Any other metric is one function of the reference and the prediction. To add one, decorate a
function and name its module in ``evaluation.plugins``::

    @register_comparison("max_error", better="lower")
    def max_error(observed, predicted):
        return np.abs(observed - predicted).max(axis=-1)
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING

import yaml

from perturbench.analysis.metrics.definitions import Aggregation, Comparison, Metric, combine, combined_names
from perturbench.errors import PerturbenchError, listing, require_choice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from perturbench.analysis.metrics.definitions import (
        AggregationFunction,
        Better,
        MetricFunction,
        Needs,
        RowFunction,
    )

#: Modules of this package that register metrics; they are imported when the registry is first used.
_MODULES = (
    "comparisons",
    "aggregations",
    "effects",
    "top_genes",
    "differential_expression",
    "distributions",
    "collapse",
)

_COMPARISONS: dict[str, Comparison] = {}
_AGGREGATIONS: dict[str, Aggregation] = {}
#: Metrics that are not made of a comparison and an aggregation.
_METRICS: dict[str, Metric] = {}


def register_comparison(
    name: str, *, better: Better, pairwise: RowFunction | None = None, source: str = ""
) -> Callable[[RowFunction], RowFunction]:
    """Register a function that compares observed with predicted aggregates, as a metric and as its rank metrics.

    Parameters
    ----------
    name
        First part of the metric's name.
    better
        Whether ``lower`` or ``higher`` values are better.
    pairwise
        Optional faster form for ranks, see :class:`~perturbench.analysis.metrics.definitions.Comparison`.
    source
        Publication or code that defines it.

    Raises
    ------
    PerturbenchError
        If another function has the name already, or makes a metric of the same name.
    """
    require_choice("better", better, ("lower", "higher"))

    def register(function: RowFunction) -> RowFunction:
        _import_built_in_metrics(before=function)
        if name in _COMPARISONS:
            _require_same("comparison", name, _COMPARISONS[name].rows, function)
        _require_unambiguous([*_COMPARISONS, name], _AGGREGATIONS, _METRICS)
        _COMPARISONS[name] = Comparison(name, better, function, pairwise, source)
        return function

    return register


def register_aggregation(
    name: str, *, needs: Needs = "means", source: str = ""
) -> Callable[[AggregationFunction], AggregationFunction]:
    """Register a function that reduces the cells of each pair to one vector.

    Parameters
    ----------
    name
        Last part of the metric's name.
    needs
        Whether group ``means`` are enough, or single ``cells`` are needed.
    source
        Publication or code that defines it.

    Raises
    ------
    PerturbenchError
        If another function has the name already, or makes a metric of the same name.
    """
    require_choice("needs", needs, ("means", "cells"))

    def register(function: AggregationFunction) -> AggregationFunction:
        _import_built_in_metrics(before=function)
        if name in _AGGREGATIONS:
            _require_same("aggregation", name, _AGGREGATIONS[name].function, function)
        _require_unambiguous(_COMPARISONS, [*_AGGREGATIONS, name], _METRICS)
        _AGGREGATIONS[name] = Aggregation(name, function, needs, source)
        return function

    return register


def register_metric(
    name: str, *, better: Better, needs: Needs = "means", source: str = ""
) -> Callable[[MetricFunction], MetricFunction]:
    """Register a function of the reference and the prediction as a metric.

    Parameters
    ----------
    name
        Name in tables.
    better
        Whether ``lower`` or ``higher`` values are better.
    needs
        Whether group ``means`` are enough, or single ``cells`` are needed.
    source
        Publication or code that defines it.

    Raises
    ------
    PerturbenchError
        If another metric has the name already.
    """
    require_choice("better", better, ("lower", "higher"))
    require_choice("needs", needs, ("means", "cells"))

    def register(function: MetricFunction) -> MetricFunction:
        _import_built_in_metrics(before=function)
        if name in _METRICS:
            _require_same("metric", name, _METRICS[name].function, function)
        _require_unambiguous(_COMPARISONS, _AGGREGATIONS, [*_METRICS, name])
        _METRICS[name] = Metric(name, better, function, needs, source)
        return function

    return register


def available_metrics() -> dict[str, Metric]:
    """Return every registered metric by name."""
    _import_built_in_metrics()
    combined = [
        metric
        for comparison in _COMPARISONS.values()
        for aggregation in _AGGREGATIONS.values()
        for metric in combine(comparison, aggregation)
    ]
    return {metric.name: metric for metric in combined} | _METRICS


def find_metric(name: str) -> Metric:
    """Return a metric by its name.

    Raises
    ------
    PerturbenchError
        If no metric has that name; the message lists the names to choose from.
    """
    known = available_metrics()
    if name not in known:
        aggregations, comparisons = listing(_AGGREGATIONS, 50), listing(_COMPARISONS, 50)
        raise PerturbenchError(
            f"unknown metric '{name}'; choose <comparison>_<aggregation>, <comparison>_rank_<aggregation> or "
            f"<comparison>_rank_transposed_<aggregation> (comparisons: {comparisons}; aggregations: {aggregations}; "
            f"for example rmse_average), or one of: {listing(_METRICS, 50)}"
        )
    return known[name]


def find_comparison(name: str) -> Comparison:
    """Return a comparison by its name, for example ``rmse``.

    Raises
    ------
    PerturbenchError
        If no comparison has that name; the message lists the names to choose from.
    """
    _import_built_in_metrics()
    require_choice("comparison", name, _COMPARISONS)
    return _COMPARISONS[name]


@cache
def profiles() -> dict[str, list[str]]:
    """Return the named lists of metrics in ``profiles.yml``."""
    return yaml.safe_load(files("perturbench.analysis.metrics").joinpath("profiles.yml").read_text(encoding="utf-8"))


def resolve_metrics(metrics: str | list[str] | tuple[str, ...]) -> list[Metric]:
    """Return the metrics that a profile, or a list of names, stands for.

    Parameters
    ----------
    metrics
        Name of a profile (``default``, ``paper``, ``all``), name of one metric, or a list of names of metrics.

    Raises
    ------
    PerturbenchError
        If a name is unknown, or the list is empty.
    """
    if isinstance(metrics, str):
        known = profiles()
        if metrics not in known and metrics not in available_metrics():
            require_choice("metrics profile or metric", metrics, known)
        metrics = list(known.get(metrics, [metrics]))
    if not metrics:
        raise PerturbenchError(f"no metrics chosen; name some of: {listing(available_metrics(), 50)}.")
    return [find_metric(name) for name in dict.fromkeys(metrics)]


def _import_built_in_metrics(before: Callable | None = None) -> None:
    """Import the modules that register this package's metrics, unless the function ``before`` is part of them.

    A user's function must clash with a built-in metric when it is registered, not when that metric is imported later.
    """
    if before is None or not before.__module__.startswith(f"{__package__}."):
        for module in _MODULES:
            import_module(f"{__package__}.{module}")


def _require_same(kind: str, name: str, first: Callable, second: Callable) -> None:
    """Raise if two functions claim one name; a function that is defined again, as in a notebook, replaces itself."""
    if _origin(first) != _origin(second):
        raise PerturbenchError(
            f"{kind} '{name}' is already defined by {_origin(first)}; give {_origin(second)} another name."
        )


def _origin(function: Callable) -> str:
    """Return where a function is defined, ``module.qualified_name``."""
    return f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"


def _require_unambiguous(comparisons: Iterable[str], aggregations: Iterable[str], metrics: Iterable[str]) -> None:
    """Raise if two metrics would get the same name: one would silently replace the other in every table."""
    makers = {name: f"metric '{name}'" for name in metrics}
    for comparison in dict.fromkeys(comparisons):
        for aggregation in dict.fromkeys(aggregations):
            maker = f"comparison '{comparison}' with aggregation '{aggregation}'"
            for name in combined_names(comparison, aggregation):
                if name in makers:
                    raise PerturbenchError(
                        f"two metrics would be called '{name}', by {makers[name]} and by {maker}; rename the new one."
                    )
                makers[name] = maker
