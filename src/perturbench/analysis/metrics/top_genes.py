"""Metrics of the genes that change most, by the paper's t-test against the controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from perturbench.analysis.metrics.aggregations import average, logfc
from perturbench.analysis.metrics.registry import find_comparison, register_metric
from perturbench.analysis.metrics.t_test import t_test

if TYPE_CHECKING:
    import pandas as pd

    from perturbench.analysis.profiles import Prediction, Profiles, Reference

#: Number of genes in ``top_k_recall_scores`` and ``de_jaccard_error``, as in the paper's code.
TOP_K = 50
#: Number of genes in the metrics that end in ``_top_de``.
TOP_DE = 20


def top_genes(scores: np.ndarray, k: int, genes: pd.Index) -> np.ndarray:
    """Return a mask ``(n_pairs, n_genes)`` of the k genes with the largest absolute scores of each pair.

    Genes with the score 0 or NaN are never among them: otherwise a prediction of no effect would recall genes by
    chance. Ties are broken by the genes' names, so that their order in the file does not matter.
    """
    # float32, as scanpy stores scores: beyond that, rounding errors would break ties.
    strength = np.abs(np.nan_to_num(scores, nan=0.0)).astype(np.float32)
    by_name = np.argsort(np.asarray(genes, dtype=str), kind="stable")
    order = by_name[np.argsort(-strength[:, by_name], axis=1, kind="stable")[:, :k]]
    mask = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(mask, order, True, axis=1)
    return mask & (strength > 0)


def top_k_recall(observed: np.ndarray, predicted: np.ndarray, genes: pd.Index, k: int) -> np.ndarray:
    """Return the share of the observed top genes that are top genes of the prediction; NaN if a pair is not tested."""
    top = top_genes(observed, k, genes)
    both, sizes = (top & top_genes(predicted, k, genes)).sum(axis=1), top.sum(axis=1)
    untested = np.isnan(observed).any(axis=1) | np.isnan(predicted).any(axis=1)
    return np.where(untested | (sizes == 0), np.nan, both / np.maximum(sizes, 1))


@register_metric("top_k_recall_scores", better="higher", needs="cells", source="paper, section 4 and appendix C")
def top_k_recall_scores(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Compute the share of the 50 genes with the largest observed |t| that are among the 50 largest predicted."""
    observed, predicted = t_test(reference, reference), t_test(prediction, reference)
    return top_k_recall(observed.scores, predicted.scores, reference.genes, TOP_K)


@register_metric("de_jaccard_error", better="lower", needs="cells", source="paper's code, pairwise Jaccard similarity")
def de_jaccard_error(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Compute how wrongly a perturbation's changed genes overlap with those of the others in its state.

    The changed genes of a perturbation are the 50 with the largest |t|. For perturbation i it is the mean over all
    others j of ``|J(predicted i, predicted j) - J(observed i, observed j)|``, where J is the Jaccard similarity of two
    sets, and 1 for two empty ones. A model that predicts one effect for all perturbations has J = 1 everywhere. NaN for
    a pair that is not tested, and in a state without two tested pairs.
    """
    observed, predicted = t_test(reference, reference).scores, t_test(prediction, reference).scores
    tested = ~(np.isnan(observed).any(axis=1) | np.isnan(predicted).any(axis=1))
    values = np.full(len(observed), np.nan)
    for state in range(len(reference.states)):
        pairs = reference.pairs_of_state(state)
        pairs = pairs[tested[pairs]]
        if len(pairs) < 2:
            continue
        similarities = [jaccard(top_genes(scores[pairs], TOP_K, reference.genes)) for scores in (observed, predicted)]
        # The diagonal is 1 on both sides, so that it adds nothing to the sum.
        values[pairs] = np.abs(similarities[1] - similarities[0]).sum(axis=1) / (len(pairs) - 1)
    return values


def jaccard(masks: np.ndarray) -> np.ndarray:
    """Return the Jaccard similarities between all rows of ``(n, n_genes)``, ``(n, n)``; 1 for two empty sets."""
    sets = masks.astype(np.float32)
    both = sets @ sets.T
    sizes = sets.sum(axis=1)
    either = sizes[:, None] + sizes[None, :] - both
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


def _fit_of_top_genes(comparison: str, aggregate: np.ndarray, predicted: np.ndarray, top: np.ndarray) -> np.ndarray:
    """Compare each pair's aggregates over its own top genes; NaN for a pair without any."""
    rows = find_comparison(comparison).rows
    return np.array(
        [
            float(rows(x[genes], y[genes])) if genes.any() else np.nan
            for x, y, genes in zip(aggregate, predicted, top, strict=True)
        ]
    )


def _observed_top_genes(reference: Reference) -> np.ndarray:
    """Return a mask of each pair's 20 top genes, from the observed cells only: a prediction cannot choose them."""
    return reference.cached(
        "top genes", lambda: top_genes(t_test(reference, reference).scores, TOP_DE, reference.genes)
    )


def _register(comparison: str, aggregation: str) -> None:
    better = find_comparison(comparison).better
    function = _AGGREGATIONS[aggregation]

    @register_metric(f"{comparison}_{aggregation}_top_de", better=better, source="paper's code, n_top_degs")
    def score(reference: Reference, prediction: Prediction) -> np.ndarray:
        sides: list[Profiles] = [reference, prediction]
        observed, predicted = (function(side, reference) for side in sides)
        return _fit_of_top_genes(comparison, observed, predicted, _observed_top_genes(reference))


_AGGREGATIONS = {"average": average, "logfc": logfc}
for _aggregation in _AGGREGATIONS:
    for _comparison in ("rmse", "mae", "cosine", "pearson"):
        _register(_comparison, _aggregation)
