"""Has a model collapsed? How similar the effects of perturbations are, observed and predicted (appendix C.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from perturbench.analysis.metrics.comparisons import unit_rows
from perturbench.analysis.metrics.registry import find_metric, register_metric
from perturbench.data.groups import pair_name

if TYPE_CHECKING:
    from perturbench.analysis.profiles import Prediction, Profiles, Reference


@dataclass(frozen=True)
class Collapse:
    """Collapse diagnostics of a prediction.

    Attributes
    ----------
    observed, predicted
        Cosine similarities between the log fold changes of all pairs of the split, ``(n, n)``, labelled by pair.
    matrix_distance, matrix_distance_per_pair
        Frobenius norm of the difference of the two matrices; the same divided by n.
    rank, rank_transposed
        Mean of ``cosine_rank_logfc`` and of ``cosine_rank_transposed_logfc``; a collapsed model gets 0.5.
    mean_similarity_observed, mean_similarity_predicted
        Mean of each matrix without its diagonal; near 1 if a model predicts one effect for all perturbations.
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
    """Compare how similar the effects of perturbations are in a prediction and in the observed cells (appendix C.3)."""
    labels = [pair_name(pair) for pair in reference.pairs]
    observed, predicted = similarities(reference, reference), similarities(prediction, reference)
    distance = matrix_distance(reference, prediction)
    off_diagonal = ~np.eye(len(labels), dtype=bool)
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
        mean_similarity_observed=_mean(observed[off_diagonal]),
        mean_similarity_predicted=_mean(predicted[off_diagonal]),
    )


def similarities(profiles: Profiles, reference: Reference) -> np.ndarray:
    """Return cosine similarities between the log fold changes of all pairs, ``(n, n)``; 0 for a pair without change."""
    from perturbench.analysis.metrics.aggregations import logfc

    return _cosines(logfc(profiles, reference))


def similarity_table(reference: Reference, prediction: Prediction, limit: int = 40) -> pd.DataFrame:
    """Return how similar the effects of the perturbations of each state are, for a figure.

    Parameters
    ----------
    reference, prediction
        The observed and the predicted side; negative predicted means count as 0.
    limit
        Largest number of perturbations of a state. Those with the most observed cells are shown, because their effects
        are known best.

    Returns
    -------
    Long form: ``state`` (its covariates as text), ``perturbation``, ``other``, ``observed``, ``predicted`` (cosine of
    log fold changes, float32). A clustering of the observed effects orders the perturbations. States with one
    perturbation are left out.
    """
    from perturbench.analysis.metrics.aggregations import logfc
    from perturbench.analysis.profiles import Prediction

    clipped = Prediction(prediction.name, reference, prediction.means, negative="clip")
    sides = {"observed": logfc(reference, reference), "predicted": logfc(clipped, reference)}
    tables = []
    for state, names in enumerate(reference.states):
        pairs = reference.pairs_of_state(state)
        pairs = pairs[np.argsort(-reference.counts[pairs], kind="stable")][:limit]
        if len(pairs) < 2:
            continue
        matrices = {side: _cosines(rows[pairs]) for side, rows in sides.items()}
        order = _cluster_order(matrices["observed"])
        labels = np.array([reference.pairs[pair][1] for pair in pairs], dtype=object)[order]
        table = pd.DataFrame({"perturbation": np.repeat(labels, len(pairs)), "other": np.tile(labels, len(pairs))})
        table.insert(0, "state", ", ".join(names))
        for side, matrix in matrices.items():
            table[side] = matrix[np.ix_(order, order)].ravel().astype(np.float32)
        tables.append(table)
    columns = ["state", "perturbation", "other", "observed", "predicted"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


@register_metric("matrix_distance_logfc", better="lower", source="paper, appendix C.3.2")
def matrix_distance(reference: Reference, prediction: Prediction) -> float:
    """Compute the Frobenius norm of predicted minus observed similarities, one value for the whole split."""
    return float(np.linalg.norm(similarities(prediction, reference) - similarities(reference, reference)))


@register_metric("matrix_distance_per_pair_logfc", better="lower", source="paper, appendix C.3.2")
def matrix_distance_per_pair(reference: Reference, prediction: Prediction) -> float:
    """Compute ``matrix_distance_logfc`` divided by the number of pairs."""
    return matrix_distance(reference, prediction) / len(reference.pairs)


def _cosines(changes: np.ndarray) -> np.ndarray:
    """Return cosines between all rows of ``(n, n_genes)``: 0 for a row of zeros, NaN for a row that is NaN."""
    absent = np.isnan(changes).any(axis=1)
    rows = unit_rows(changes)
    cosines = np.nan_to_num(rows @ rows.T, nan=0.0)
    np.fill_diagonal(cosines, 1.0)
    cosines[absent] = cosines[:, absent] = np.nan
    return cosines


def _cluster_order(similarity: np.ndarray) -> np.ndarray:
    """Return an order of the rows that puts similar ones beside each other."""
    distance = np.clip(1 - similarity, 0, 2)  # rounding takes cosines slightly out of [-1, 1]
    return leaves_list(linkage(squareform(distance, checks=False), "average"))


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
