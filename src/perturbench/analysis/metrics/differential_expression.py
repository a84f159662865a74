"""Agreement of observed and predicted differential expression, by rank-sum tests against the observed controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from perturbench.analysis.metrics.comparisons import centred, cosine
from perturbench.analysis.metrics.rank_sum import RankSum, rank_sum
from perturbench.analysis.metrics.registry import register_metric
from perturbench.analysis.metrics.top_genes import top_genes, top_k_recall

if TYPE_CHECKING:
    from perturbench.analysis.profiles import Prediction, Reference

#: Number of genes in ``top_k_recall_wilcoxon``.
TOP_K = 20


def _undefined_where_untested(values: np.ndarray, *tested: RankSum) -> np.ndarray:
    """Set values to NaN for pairs that have too few cells for one of the tests."""
    for results in tested:
        values = np.where(np.isnan(results.scores).any(axis=1), np.nan, values)
    return values


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, part / whole, np.nan)


@register_metric("top_k_recall_wilcoxon", better="higher", needs="cells")
def top_k_recall_wilcoxon(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Compute the share of the 20 genes with the largest observed rank-sum |z| that are among the 20 predicted.

    ``top_k_recall_scores`` is the paper's recall, which takes 50 genes by a t-test.
    """
    observed, predicted = rank_sum(reference, reference), rank_sum(prediction, reference)
    return top_k_recall(observed.scores, predicted.scores, reference.genes, TOP_K)


@register_metric("de_overlap", better="higher", needs="cells", source="cell-eval (Arc Institute)")
def de_overlap(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Compute the overlap at k, where k is the number of genes that are significant in the observed cells.

    It is the share of these k genes among the k genes with the largest |score| that are significant in the prediction.
    """
    observed, predicted = rank_sum(reference, reference), rank_sum(prediction, reference)
    values = []
    for truth, score, called in zip(observed.significant, predicted.scores, predicted.significant, strict=True):
        k = int(truth.sum())
        strongest = top_genes(np.where(called, score, np.nan)[None], k, reference.genes)[0] if k else called
        values.append((strongest & truth).sum() / k if k else np.nan)
    return _undefined_where_untested(np.array(values, dtype=float), observed, predicted)


@register_metric("de_precision", better="higher", needs="cells", source="cell-eval (Arc Institute)")
def de_precision(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Compute the share of predicted significant genes that are significant in the observed cells, too; NaN if none."""
    observed, predicted = rank_sum(reference, reference), rank_sum(prediction, reference)
    right = (observed.significant & predicted.significant).sum(axis=1)
    return _undefined_where_untested(_share(right, predicted.significant.sum(axis=1)), observed, predicted)


@register_metric("de_direction_match", better="higher", source="cell-eval (Arc Institute)", needs="cells")
def de_direction_match(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Compute the share of observed significant genes that change in the right direction; no change is wrong."""
    observed = rank_sum(reference, reference)
    same = np.sign(reference.means - reference.control_means) * np.sign(prediction.means - reference.control_means) > 0
    values = _share((same & observed.significant).sum(axis=1), observed.significant.sum(axis=1))
    return np.where(np.isnan(prediction.means).any(axis=1), np.nan, _undefined_where_untested(values, observed))


@register_metric("de_auprc", better="higher", source="cell-eval (Arc Institute)", needs="cells")
def de_auprc(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Compute the average precision with which predicted |scores| find the observed significant genes.

    Genes with equal scores enter together, so that their order in the file does not matter.
    """
    from sklearn.metrics import average_precision_score

    observed, predicted = rank_sum(reference, reference), rank_sum(prediction, reference)
    values = [
        average_precision_score(truth, np.abs(score)) if truth.any() and not np.isnan(score).any() else np.nan
        for truth, score in zip(observed.significant, predicted.scores, strict=True)
    ]
    return _undefined_where_untested(np.array(values, dtype=float), observed, predicted)


@register_metric("de_spearman_lfc", better="higher", source="cell-eval (Arc Institute)", needs="cells")
def de_spearman_lfc(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Compute the Spearman correlation of log fold changes over observed significant genes; NaN below three genes."""
    from scipy.stats import rankdata  # takes 0.4 s, and most runs do not need it

    from perturbench.analysis.metrics.aggregations import logfc

    observed = rank_sum(reference, reference)
    values = []
    for predicted, truth, genes in zip(
        logfc(prediction, reference), logfc(reference, reference), observed.significant, strict=True
    ):
        if genes.sum() < 3 or np.isnan(predicted).any():
            values.append(np.nan)
        else:
            values.append(float(cosine(centred(rankdata(truth[genes])), centred(rankdata(predicted[genes])))))
    return _undefined_where_untested(np.array(values, dtype=float), observed)
