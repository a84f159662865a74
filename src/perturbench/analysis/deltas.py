"""Changes: against the controls, and against what perturbed cells look like on average."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.spatial.distance import cdist

from perturbench.analysis.comparisons import pearson, squared_distances
from perturbench.analysis.differential import rank_sum
from perturbench.analysis.metrics import register_side_metric
from perturbench.analysis.ranks import rank_of_matches

if TYPE_CHECKING:
    from perturbench.analysis.statistics import Prediction, Reference


def mean_perturbed_state(reference: Reference) -> np.ndarray:
    """Return the mean over the observed perturbations of each pair's state, ``(n_pairs, n_genes)``."""
    means = np.empty_like(reference.means)
    for state in range(len(reference.states)):
        pairs = reference.pairs_of_state(state)
        means[pairs] = reference.means[pairs].mean(axis=0)
    return means


@register_side_metric("pearson_delta", better="higher", source="GEARS (Roohani et al. 2024)")
def pearson_delta(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Correlation of changes against the observed controls; NaN without any change."""
    return pearson(reference.means - reference.control_means, prediction.means - reference.control_means)


@register_side_metric("pearson_delta_mean", better="higher", source="Systema (Vinas Torne et al. 2025)")
def pearson_delta_mean(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Correlation of changes against the mean perturbed state; 0 for a model that predicts that state itself.

    NaN for a pair that is not predicted, and in a state with one perturbation.
    """
    centre = mean_perturbed_state(reference)
    observed, predicted = reference.means - centre, prediction.means - centre
    values = pearson(observed, predicted)
    knows_only_the_mean = np.abs(predicted).max(axis=1) <= 1e-9 * np.maximum(np.abs(centre).max(axis=1), 1e-12)
    values = np.where(knows_only_the_mean, 0.0, values)
    sizes = np.bincount(reference.state_of_pair)[reference.state_of_pair]
    return np.where((sizes < 2) | np.isnan(prediction.means).any(axis=1), np.nan, values)


def _weights(reference: Reference) -> np.ndarray:
    """Return weights of the genes from the observed rank-sum only, each row summing to 1; NaN without a test."""

    def make() -> np.ndarray:
        strength = rank_sum(reference, reference).scores ** 2
        total = strength.sum(axis=1, keepdims=True)
        uniform = np.full_like(strength, 1 / strength.shape[1])
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(total == 0, uniform, strength / total)

    return reference.remember("weights", make)


@register_side_metric("wmse", better="lower", needs="cells", source="Mejia et al. 2025")
def wmse(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Squared error weighted by the squared observed rank-sum score of each gene."""
    return (_weights(reference) * (reference.means - prediction.means) ** 2).sum(axis=1)


@register_side_metric("r2_weighted", better="higher", needs="cells", source="Mejia et al. 2025")
def r2_weighted(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Weighted share of the change against the mean perturbed state that is explained; 0 for predicting that state."""
    weights, centre = _weights(reference), mean_perturbed_state(reference)
    total = (weights * (reference.means - centre) ** 2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, 1 - wmse(reference, prediction) / total, np.nan)


def _discrimination(reference: Reference, prediction: Prediction, norm: Literal["l1", "l2", "cosine"]) -> np.ndarray:
    """Return 1 - the transposed rank of the changes, each pair's own target genes left out."""
    position = {gene: column for column, gene in enumerate(reference.genes)}
    values = np.full(len(reference.pairs), np.nan)
    present = ~np.isnan(prediction.means).any(axis=1)
    for state in range(len(reference.states)):
        pairs = reference.pairs_of_state(state)
        pairs = pairs[present[pairs]]
        observed = reference.means[pairs] - reference.control_means[pairs]
        predicted = prediction.means[pairs] - reference.control_means[pairs]
        matrix = _distance_parts(observed, predicted, norm)
        for row, pair in enumerate(pairs):
            targets = [position[g] for g in reference.keys.singles(reference.pairs[pair][1]) if g in position]
            matrix[row] = _without_targets(matrix[row], observed, predicted[row], targets, norm)
        values[pairs] = 1 - rank_of_matches(matrix.T, "lower")
    return values


def _distance_parts(observed: np.ndarray, predicted: np.ndarray, norm: str) -> np.ndarray:
    """Return what a distance is made of: sums over genes for l1 and l2, dot products for the cosine."""
    if norm == "l1":
        return cdist(predicted, observed, "cityblock")
    return squared_distances(observed, predicted) if norm == "l2" else predicted @ observed.T


def _without_targets(
    parts: np.ndarray, observed: np.ndarray, predicted: np.ndarray, targets: list[int], norm: str
) -> np.ndarray:
    """Return a prediction's distances to all observations without the target genes, ``(n,)``."""
    gone = predicted[targets] - observed[:, targets]
    if norm == "l1":
        return parts - np.abs(gone).sum(axis=1)
    if norm == "l2":
        return np.maximum(parts - (gone**2).sum(axis=1), 0.0)
    kept = np.setdiff1d(np.arange(observed.shape[1]), targets)
    length = np.linalg.norm(predicted[kept]) * np.sqrt(
        np.maximum((observed**2).sum(axis=1) - (observed[:, targets] ** 2).sum(axis=1), 0.0)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - np.where(length > 0, (parts - observed[:, targets] @ predicted[targets]) / length, 0.0)


def _register(norm: Literal["l1", "l2", "cosine"]) -> None:
    @register_side_metric(f"pds_{norm}", better="higher", source="Virtual Cell Challenge 2025")
    def score(reference: Reference, prediction: Prediction) -> np.ndarray:
        return _discrimination(reference, prediction, norm)


for _norm in ("l1", "l2", "cosine"):
    _register(_norm)
