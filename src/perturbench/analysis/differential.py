"""Differential expression: one rank-sum test for all perturbations of a state, and agreement of its results."""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from scipy.stats import false_discovery_control, rankdata

from perturbench.analysis.comparisons import centred, cosine
from perturbench.analysis.metrics import register_side_metric

if TYPE_CHECKING:
    from perturbench.analysis.statistics import Prediction, Reference, Side

TOP_K = 20
ALPHA = 0.05


@dataclass(frozen=True)
class RankSum:
    """Results of the tests, ``(n_pairs, n_genes)`` each; NaN for pairs with fewer than two cells.

    Attributes
    ----------
    scores
        z-scores, tie-corrected, as scanpy's ``rank_genes_groups(method="wilcoxon", tie_correct=True)``.
    pvalues
        Two-sided.
    significant
        Whether the Benjamini-Hochberg adjusted p-value is below 0.05.
    """

    scores: np.ndarray
    pvalues: np.ndarray
    significant: np.ndarray


def rank_sum(side: Side, reference: Reference) -> RankSum:
    """Test each gene of each pair's cells against the observed control cells of its state; computed once."""
    return side.remember("rank_sum", lambda: _rank_sum(side, reference))


def _rank_sum(side: Side, reference: Reference) -> RankSum:
    shape = (len(reference.pairs), len(reference.genes))
    scores, pvalues = np.full(shape, np.nan), np.full(shape, np.nan)
    for state in range(len(reference.states)):
        pairs = reference.pairs_of_state(state)
        pairs = pairs[side.counts[pairs] > 1]
        if not len(pairs):
            continue
        cells, codes = side.require_cells("a test").take(pairs)
        z, p = _test_against(cells, codes, reference.control_cells(state), pairs)
        scores[pairs], pvalues[pairs] = z, p
    significant = np.zeros(shape, dtype=bool)
    tested = ~np.isnan(pvalues).any(axis=1)
    if tested.any():
        significant[tested] = false_discovery_control(pvalues[tested], axis=1) < ALPHA
    return RankSum(scores, pvalues, significant)


def _test_against(cells: Any, codes: np.ndarray, controls: Any, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return z-scores and p-values ``(n_pairs, n_genes)``, by illico."""
    import anndata as ad
    import illico
    import pandas as pd
    from loguru import logger

    logger.disable("illico")
    if sp.issparse(cells) != sp.issparse(controls):
        cells, controls = (part.toarray() if sp.issparse(part) else part for part in (cells, controls))
    x: Any = sp.vstack([cells, controls], format="csr") if sp.issparse(cells) else np.concatenate([cells, controls])
    if sp.issparse(x):
        x.sort_indices()
    labels = np.concatenate([np.searchsorted(pairs, codes), np.full(controls.shape[0], len(pairs))])
    names = [*(str(pair) for pair in pairs), "control"]
    obs = pd.DataFrame({"group": pd.Categorical.from_codes(labels, names)}).set_index(
        pd.RangeIndex(len(labels)).astype(str)
    )
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        table = illico.asymptotic_wilcoxon(
            ad.AnnData(x.astype(np.float32), obs=obs),
            is_log1p=True,
            group_keys="group",
            reference="control",
            use_continuity=False,
            tie_correct=True,
            n_threads=os.cpu_count() or 1,
        )
    table = table.loc[names[:-1]]
    shape = (len(pairs), x.shape[1])
    z = table["z_score"].to_numpy(dtype=float).reshape(shape)
    p = table["p_value"].to_numpy(dtype=float).reshape(shape)
    return np.nan_to_num(z), np.where(np.isnan(p), 1.0, p)


def _top(scores: np.ndarray, k: int) -> np.ndarray:
    """Return a mask of the k largest |scores| of each row, ties by position; 0 and NaN are never among them."""
    strength = np.abs(np.nan_to_num(scores, nan=-1.0))
    order = np.argsort(-strength, axis=1, kind="stable")[:, :k]
    mask = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(mask, order, True, axis=1)
    return mask & (strength > 0)


def _undefined_where_untested(values: np.ndarray, *tested: RankSum) -> np.ndarray:
    for results in tested:
        values = np.where(np.isnan(results.scores).any(axis=1), np.nan, values)
    return values


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, part / whole, np.nan)


@register_side_metric("top_k_recall_scores", better="higher", needs="cells", source="paper, appendix C")
def top_k_recall(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Share of the 20 genes with the largest observed |score| among the 20 with the largest predicted."""
    observed, predicted = rank_sum(reference, reference), rank_sum(prediction, reference)
    k = min(TOP_K, observed.scores.shape[1])
    both = (_top(observed.scores, k) & _top(predicted.scores, k)).sum(axis=1)
    return _undefined_where_untested(both / k, observed, predicted)


@register_side_metric("de_overlap", better="higher", needs="cells", source="cell-eval (Arc Institute)")
def de_overlap(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Overlap at k: share of the k significant observed genes among the k strongest predicted significant ones."""
    observed, predicted = rank_sum(reference, reference), rank_sum(prediction, reference)
    values = []
    for truth, score, called in zip(observed.significant, predicted.scores, predicted.significant, strict=True):
        k = int(truth.sum())
        strongest = _top(np.where(called, score, np.nan)[None], k)[0] if k else called
        values.append((strongest & truth).sum() / k if k else np.nan)
    return _undefined_where_untested(np.array(values, dtype=float), observed, predicted)


@register_side_metric("de_precision", better="higher", needs="cells", source="cell-eval (Arc Institute)")
def de_precision(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Share of predicted significant genes that are significant in the observed; NaN if none is predicted."""
    observed, predicted = rank_sum(reference, reference), rank_sum(prediction, reference)
    right = (observed.significant & predicted.significant).sum(axis=1)
    return _undefined_where_untested(_share(right, predicted.significant.sum(axis=1)), observed, predicted)


@register_side_metric("de_direction_match", better="higher", source="cell-eval (Arc Institute)", needs="cells")
def de_direction_match(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Share of observed significant genes whose mean moves the same way; a gene that does not move is wrong."""
    observed = rank_sum(reference, reference)
    same = np.sign(reference.means - reference.control_means) * np.sign(prediction.means - reference.control_means) > 0
    values = _share((same & observed.significant).sum(axis=1), observed.significant.sum(axis=1))
    return np.where(np.isnan(prediction.means).any(axis=1), np.nan, _undefined_where_untested(values, observed))


@register_side_metric("de_auprc", better="higher", source="cell-eval (Arc Institute)", needs="cells")
def de_auprc(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Average precision of predicted |scores| for the observed significant genes, equal scores taken together."""
    from sklearn.metrics import average_precision_score

    observed, predicted = rank_sum(reference, reference), rank_sum(prediction, reference)
    values = [
        average_precision_score(truth, np.abs(score)) if truth.any() and not np.isnan(score).any() else np.nan
        for truth, score in zip(observed.significant, predicted.scores, strict=True)
    ]
    return _undefined_where_untested(np.array(values, dtype=float), observed, predicted)


@register_side_metric("de_spearman_lfc", better="higher", source="cell-eval (Arc Institute)", needs="cells")
def de_spearman_lfc(reference: Reference, prediction: Prediction) -> np.ndarray:
    """Rank correlation of log fold changes over the observed significant genes; NaN for fewer than three."""
    from perturbench.analysis.aggregations import logfc

    observed = rank_sum(reference, reference)
    values = []
    for mine, theirs, genes in zip(
        logfc(prediction, reference), logfc(reference, reference), observed.significant, strict=True
    ):
        if genes.sum() < 3 or np.isnan(mine).any():
            values.append(np.nan)
        else:
            values.append(float(cosine(centred(rankdata(theirs[genes])), centred(rankdata(mine[genes])))))
    return _undefined_where_untested(np.array(values, dtype=float), observed)
