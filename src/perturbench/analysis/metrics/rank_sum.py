"""Rank-sum tests of every gene of every perturbation against the controls of its state."""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from scipy.stats import false_discovery_control

if TYPE_CHECKING:
    from perturbench.analysis.profiles import Profiles, Reference


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


def rank_sum(side: Profiles, reference: Reference) -> RankSum:
    """Test each gene of each pair's cells against the observed control cells of its state; computed once."""
    return side.remember("rank_sum", lambda: _rank_sum(side, reference))


def _rank_sum(side: Profiles, reference: Reference) -> RankSum:
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
