"""Has a model collapsed? Similarities between all perturbations, predicted and observed (appendix C.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from perturbench.analysis.comparisons import unit_rows
from perturbench.analysis.metrics import find_metric, register_side_metric
from perturbench.data.groups import pair_name

if TYPE_CHECKING:
    from perturbench.analysis.statistics import Prediction, Reference, Side


@dataclass(frozen=True)
class Collapse:
    """Collapse diagnostics of a prediction.

    Attributes
    ----------
    observed, predicted
        Cosine similarities of the log fold changes of all pairs of the split, ``(n, n)``, labelled.
    matrix_distance
        Frobenius norm of their difference; ``matrix_distance_per_pair`` is that divided by n.
    rank, rank_transposed
        Mean rank of the cosine of log fold changes, both ways; 0.5 is what a collapsed model gets.
    mean_similarity_observed, mean_similarity_predicted
        Means off the diagonal: a collapsed model predicts effects that are all alike.
    """

    observed: pd.DataFrame
    predicted: pd.DataFrame
    matrix_distance: float
    matrix_distance_per_pair: float
    rank: float
    rank_transposed: float
    mean_similarity_observed: float
    mean_similarity_predicted: float


def collapse_diagnostics(reference: Reference, prediction: Prediction) -> Collapse:
    """Compare how alike perturbations are in a prediction and in truth (appendix C.3)."""
    labels = [pair_name(pair) for pair in reference.pairs]
    observed, predicted = similarities(reference, reference), similarities(prediction, reference)
    distance = matrix_distance(reference, prediction)
    off = ~np.eye(len(labels), dtype=bool)
    ranks = [
        _mean(find_metric(name).function(reference, prediction))
        for name in ("cosine_rank_logfc", "cosine_rank_transposed_logfc")
    ]
    return Collapse(
        observed=pd.DataFrame(observed, labels, labels),
        predicted=pd.DataFrame(predicted, labels, labels),
        matrix_distance=distance,
        matrix_distance_per_pair=distance / len(labels),
        rank=ranks[0],
        rank_transposed=ranks[1],
        mean_similarity_observed=_mean(observed[off]),
        mean_similarity_predicted=_mean(predicted[off]),
    )


def similarities(side: Side, reference: Reference) -> np.ndarray:
    """Return cosine similarities of the log fold changes of all pairs, ``(n, n)``; 0 with a pair without any change."""
    from perturbench.analysis.aggregations import logfc

    rows = unit_rows(logfc(side, reference))
    absent = np.isnan(side.means).any(axis=1)
    similar = np.nan_to_num(rows @ rows.T, nan=0.0)
    np.fill_diagonal(similar, 1.0)
    similar[absent] = similar[:, absent] = np.nan
    return similar


@register_side_metric("matrix_distance_logfc", better="lower", source="paper, appendix C.3.2")
def matrix_distance(reference: Reference, prediction: Prediction) -> float:
    """Frobenius norm of predicted less observed similarities, one value of the whole split."""
    return float(np.linalg.norm(similarities(prediction, reference) - similarities(reference, reference)))


@register_side_metric("matrix_distance_per_pair_logfc", better="lower", source="paper, appendix C.3.2")
def matrix_distance_per_pair(reference: Reference, prediction: Prediction) -> float:
    """Frobenius norm as in ``matrix_distance_logfc``, divided by the number of pairs."""
    return matrix_distance(reference, prediction) / len(reference.pairs)


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
