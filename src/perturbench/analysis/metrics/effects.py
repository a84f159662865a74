"""Metrics of perturbation effects, relative to the controls or to the mean perturbed state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from perturbench.analysis.metrics.comparisons import pearson
from perturbench.analysis.metrics.rank_sum import rank_sum
from perturbench.analysis.metrics.ranks import merge_nearly_equal_rows, rank_of_matches
from perturbench.analysis.metrics.registry import find_comparison, register_metric

if TYPE_CHECKING:
    from perturbench.analysis.profiles import Prediction, Reference


def mean_perturbed_state(reference: Reference) -> np.ndarray:
    """Return the mean over all observed perturbations of each pair's state, ``(n_pairs, n_genes)``."""
    means = np.empty_like(reference.means)
    for state in range(len(reference.states)):
        pairs = reference.pairs_of_state(state)
        means[pairs] = reference.means[pairs].mean(axis=0)
    return means


@register_metric("pearson_delta", better="higher", source="GEARS (Roohani et al. 2024)")
def pearson_delta(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Correlate observed and predicted changes from the observed controls; NaN if either changes nothing."""
    return pearson(reference.means - reference.control_means, prediction.means - reference.control_means)


@register_metric("pearson_delta_mean", better="higher", source="Systema (Vinas Torne et al. 2025)")
def pearson_delta_mean(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Correlate observed and predicted changes from the mean perturbed state.

    A model that knows only the mean perturbed state gets 0. NaN for a pair that is not predicted, and in a state with
    one perturbation, whose mean is the perturbation itself.
    """
    centre = mean_perturbed_state(reference)
    observed, predicted = reference.means - centre, prediction.means - centre
    values = pearson(observed, predicted)
    # Predicting the mean itself leaves rounding errors, whose correlation would be noise: it is 0 by definition.
    predicts_the_mean = np.abs(predicted).max(axis=1) <= 1e-9 * np.maximum(np.abs(centre).max(axis=1), 1e-12)
    values = np.where(predicts_the_mean, 0.0, values)
    sizes = np.bincount(reference.state_of_pair)[reference.state_of_pair]
    return np.where((sizes < 2) | np.isnan(prediction.means).any(axis=1), np.nan, values)


def _weights(reference: Reference) -> np.ndarray:
    """Return the weight of each gene, ``(n_pairs, n_genes)``: squared rank-sum scores scaled to sum to 1.

    They come from the observed cells only, so that a prediction cannot choose its weights. NaN for a pair that has no
    test, equal weights if no gene changes.
    """

    def compute() -> np.ndarray:
        strength = rank_sum(reference, reference).scores ** 2
        total = strength.sum(axis=1, keepdims=True)
        uniform = np.full_like(strength, 1 / strength.shape[1])
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(total == 0, uniform, strength / total)

    return reference.cached("weights", compute)


@register_metric("wmse", better="lower", needs="cells", source="Mejia et al. 2025")
def wmse(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Compute the mean squared error, genes weighted by their squared observed rank-sum score."""
    return (_weights(reference) * (reference.means - prediction.means) ** 2).sum(axis=1)


@register_metric("r2_weighted", better="higher", needs="cells", source="Mejia et al. 2025")
def r2_weighted(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Compute the weighted share of the change from the mean perturbed state that is explained.

    Genes are weighted as in ``wmse``. Predicting the mean perturbed state gets 0.
    """
    weights, centre = _weights(reference), mean_perturbed_state(reference)
    total = (weights * (reference.means - centre) ** 2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, 1 - wmse(reference, prediction) / total, np.nan)


def _discrimination(reference: Reference, prediction: Prediction, norm: str) -> np.ndarray:
    """Return the perturbation discrimination score, 1 - the transposed rank of the changes, ``(n_pairs,)``.

    Every gene that is perturbed in the state is left out for all of its pairs. If each pair left out its own target
    only, the missing gene would identify the pair, and even a constant prediction would seem to discriminate.
    """
    values = np.full(len(reference.pairs), np.nan)
    present = ~np.isnan(prediction.means).any(axis=1)
    for state in range(len(reference.states)):
        pairs = reference.pairs_of_state(state)
        targets = {name for pair in pairs for name in reference.keys.singles(reference.pairs[pair][1])}
        genes = ~reference.genes.isin(targets)
        pairs = pairs[present[pairs]]
        if not len(pairs) or not genes.any():
            continue
        control = reference.control_means[pairs]
        observed, predicted = ((side.means[pairs] - control)[:, genes] for side in (reference, prediction))
        comparison = find_comparison(_NORMS[norm])
        matrix = comparison.matrix(observed, merge_nearly_equal_rows(predicted))
        values[pairs] = 1 - rank_of_matches(matrix.T, comparison.better)
    return values


_NORMS = {"l1": "mae", "l2": "rmse", "cosine": "cosine"}


def _register(norm: str) -> None:
    @register_metric(f"pds_{norm}", better="higher", source="Virtual Cell Challenge 2025")
    def score(reference: Reference, prediction: Prediction) -> np.ndarray:
        return _discrimination(reference, prediction, norm)


for _norm in _NORMS:
    _register(_norm)
