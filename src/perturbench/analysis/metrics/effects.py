"""Changes: against the controls, and against what perturbed cells look like on average."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from perturbench.analysis.metrics.comparisons import pearson
from perturbench.analysis.metrics.rank_sum import rank_sum
from perturbench.analysis.metrics.ranks import rank_of_matches, same_rows
from perturbench.analysis.metrics.registry import find_comparison, register_metric

if TYPE_CHECKING:
    from perturbench.analysis.profiles import Prediction, Reference


def mean_perturbed_state(reference: Reference) -> np.ndarray:
    """Return the mean over the observed perturbations of each pair's state, ``(n_pairs, n_genes)``."""
    means = np.empty_like(reference.means)
    for state in range(len(reference.states)):
        pairs = reference.pairs_of_state(state)
        means[pairs] = reference.means[pairs].mean(axis=0)
    return means


@register_metric("pearson_delta", better="higher", source="GEARS (Roohani et al. 2024)")
def pearson_delta(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Correlation of changes against the observed controls; NaN without any change."""
    return pearson(reference.means - reference.control_means, prediction.means - reference.control_means)


@register_metric("pearson_delta_mean", better="higher", source="Systema (Vinas Torne et al. 2025)")
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


@register_metric("wmse", better="lower", needs="cells", source="Mejia et al. 2025")
def wmse(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Squared error weighted by the squared observed rank-sum score of each gene."""
    return (_weights(reference) * (reference.means - prediction.means) ** 2).sum(axis=1)


@register_metric("r2_weighted", better="higher", needs="cells", source="Mejia et al. 2025")
def r2_weighted(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Weighted share of the change against the mean perturbed state that is explained; 0 for predicting that state."""
    weights, centre = _weights(reference), mean_perturbed_state(reference)
    total = (weights * (reference.means - centre) ** 2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, 1 - wmse(reference, prediction) / total, np.nan)


def _discrimination(reference: Reference, prediction: Prediction, norm: str) -> np.ndarray:
    """Return 1 - the transposed rank of the changes.

    All genes that are perturbed in the state are left out, for every pair: were only a pair's own target left out, the
    targets of the others would give it away, and a constant prediction would seem to discriminate.
    """
    values = np.full(len(reference.pairs), np.nan)
    present = ~np.isnan(prediction.means).any(axis=1)
    for state in range(len(reference.states)):
        pairs = reference.pairs_of_state(state)
        targets = {name for pair in pairs for name in reference.keys.singles(reference.pairs[pair][1])}
        kept = ~reference.genes.isin(targets)
        pairs = pairs[present[pairs]]
        if not len(pairs) or not kept.any():
            continue
        control = reference.control_means[pairs]
        observed, predicted = ((side.means[pairs] - control)[:, kept] for side in (reference, prediction))
        comparison = find_comparison(_NORMS[norm])
        matrix = comparison.matrix(observed, same_rows(predicted))
        values[pairs] = 1 - rank_of_matches(matrix.T, comparison.better)
    return values


_NORMS = {"l1": "mae", "l2": "rmse", "cosine": "cosine"}


def _register(norm: str) -> None:
    @register_metric(f"pds_{norm}", better="higher", source="Virtual Cell Challenge 2025")
    def score(reference: Reference, prediction: Prediction) -> np.ndarray:
        return _discrimination(reference, prediction, norm)


for _norm in _NORMS:
    _register(_norm)
