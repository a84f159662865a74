"""What a metric is: a comparison, an aggregation, and the metrics that the two make together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from perturbench.analysis.metrics.ranks import merge_nearly_equal_rows, rank_of_matches
from perturbench.analysis.profiles import Prediction, Profiles, Reference

Better = Literal["lower", "higher"]
Needs = Literal["means", "cells"]
RowFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]
AggregationFunction = Callable[[Profiles, Reference], np.ndarray]
MetricFunction = Callable[[Reference, Prediction], Any]


@dataclass(frozen=True)
class Comparison:
    """A function that compares an observed with a predicted aggregate, for example ``rmse``.

    Attributes
    ----------
    name
        First part of the metric's name.
    better
        Whether lower or higher values are better.
    rows
        ``(..., n_genes), (..., n_genes) -> (...)``: compares observed with predicted along the last axis.
    pairwise
        Optional faster form for ranks, ``(n, n_genes), (n, n_genes) -> (n, n)``: the value of prediction ``j`` for
        observation ``i`` is at ``[j, i]``.
    source
        Publication or code that defines it.
    """

    name: str
    better: Better
    rows: RowFunction
    pairwise: RowFunction | None = None
    source: str = ""

    def matrix(self, observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Compare every prediction (rows) with every observation (columns), ``(n, n)``."""
        if self.pairwise is not None:
            return self.pairwise(observed, predicted)
        return np.stack([self.rows(row[None], predicted) for row in observed], axis=1)


@dataclass(frozen=True)
class Aggregation:
    """A function that reduces the cells of each pair to one vector, for example ``average``.

    Attributes
    ----------
    name
        Last part of the metric's name.
    function
        ``profiles, reference -> (n_pairs, n_features)``; called once with the observed and once with the predicted
        profiles.
    needs
        Whether group means are enough, or single cells are needed.
    source
        Publication or code that defines it.
    """

    name: str
    function: AggregationFunction
    needs: Needs = "means"
    source: str = ""

    def compute(self, profiles: Profiles, reference: Reference) -> np.ndarray:
        """Return the aggregate of each pair, ``(n_pairs, n_features)``; later calls reuse it."""
        return profiles.cached(("aggregation", self.name), lambda: self.function(profiles, reference))


@dataclass(frozen=True)
class Metric:
    """A metric: how a prediction is scored against the reference.

    Attributes
    ----------
    name
        Name in tables.
    better
        Whether lower or higher values are better.
    function
        ``reference, prediction -> (n_pairs,)``, or a single number if the metric describes the whole split.
    needs
        Whether group means are enough, or single cells are needed.
    source
        Publication or code that defines it.
    """

    name: str
    better: Better
    function: MetricFunction
    needs: Needs = "means"
    source: str = ""

    @property
    def is_rank(self) -> bool:
        """Whether the values are ranks, for which 0 is perfect and 0.5 is random."""
        return "_rank_" in self.name


def combined_names(comparison: str, aggregation: str) -> tuple[str, str, str]:
    """Return the names of the metrics that a comparison and an aggregation make: the fit, and its two ranks."""
    return (
        f"{comparison}_{aggregation}",
        f"{comparison}_rank_{aggregation}",
        f"{comparison}_rank_transposed_{aggregation}",
    )


def combine(comparison: Comparison, aggregation: Aggregation) -> list[Metric]:
    """Return the metrics that a comparison and an aggregation make: the fit, and its two ranks."""
    fit, rank, transposed = combined_names(comparison.name, aggregation.name)
    needs, source = aggregation.needs, comparison.source or aggregation.source
    return [
        Metric(fit, comparison.better, partial(_fit, comparison, aggregation), needs, source),
        # Lower ranks are better, whichever way the comparison itself goes.
        Metric(rank, "lower", partial(_rank, comparison, aggregation, False), needs, source),
        Metric(transposed, "lower", partial(_rank, comparison, aggregation, True), needs, source),
    ]


def _fit(comparison: Comparison, aggregation: Aggregation, reference: Reference, prediction: Prediction) -> np.ndarray:
    observed, predicted = aggregation.compute(reference, reference), aggregation.compute(prediction, reference)
    return np.asarray(comparison.rows(observed, predicted), dtype=float)


def _rank(
    comparison: Comparison,
    aggregation: Aggregation,
    transposed: bool,
    reference: Reference,
    prediction: Prediction,
) -> np.ndarray:
    """Rank the pairs of each state among each other; pairs without an aggregate stay NaN and take no part."""
    observed, predicted = aggregation.compute(reference, reference), aggregation.compute(prediction, reference)
    ranks = np.full(len(observed), np.nan)
    present = ~(np.isnan(predicted).any(axis=1) | np.isnan(observed).any(axis=1))
    for state in range(len(reference.states)):
        pairs = np.flatnonzero((reference.state_of_pair == state) & present)
        if len(pairs):
            compare = partial(comparison.matrix, observed[pairs], merge_nearly_equal_rows(predicted[pairs]))
            # Both ranks use the same matrix, which costs far more than the ranking.
            matrix = prediction.cached(("matrix", comparison.name, aggregation.name, state), compare)
            ranks[pairs] = rank_of_matches(matrix.T if transposed else matrix, comparison.better)
    return ranks
