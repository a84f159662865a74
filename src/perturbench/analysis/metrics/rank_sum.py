"""Rank-sum tests for differential expression: every gene of every pair against the controls of its state."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from perturbench.analysis.profiles import Profiles, Reference

#: Genes with a smaller adjusted p-value are differentially expressed.
ALPHA = 0.05


@dataclass(frozen=True)
class RankSum:
    """Results of the tests, ``(n_pairs, n_genes)`` each; NaN for pairs with fewer than two cells.

    Attributes
    ----------
    scores
        z-scores with tie correction, as in scanpy's ``rank_genes_groups(method="wilcoxon", tie_correct=True)``.
    pvalues
        Two-sided p-values.
    significant
        Whether the p-value, adjusted over genes by Benjamini and Hochberg, is below 0.05.
    """

    scores: np.ndarray
    pvalues: np.ndarray
    significant: np.ndarray


def rank_sum(profiles: Profiles, reference: Reference) -> RankSum:
    """Test each pair's cells against the observed control cells of its state, gene by gene; later calls reuse it."""
    return profiles.cached("rank sum", lambda: _rank_sum(profiles, reference))


def _rank_sum(profiles: Profiles, reference: Reference) -> RankSum:
    from scipy.stats import false_discovery_control  # takes 0.4 s, and most runs do not need it

    shape = (len(reference.pairs), len(reference.genes))
    scores, pvalues = np.full(shape, np.nan), np.full(shape, np.nan)
    for state in range(len(reference.states)):
        pairs = reference.pairs_of_state(state)
        pairs = pairs[profiles.counts[pairs] > 1]
        if not len(pairs):
            continue
        cells, codes = profiles.require_cells("a rank-sum test").take(pairs)
        z, p = _test_against(cells, codes, reference.control_cells(state), pairs)
        scores[pairs], pvalues[pairs] = z, p
    significant = np.zeros(shape, dtype=bool)
    tested = ~np.isnan(pvalues).any(axis=1)
    if tested.any():
        significant[tested] = false_discovery_control(pvalues[tested], axis=1) < ALPHA
    return RankSum(scores, pvalues, significant)


def _test_against(cells: Any, codes: np.ndarray, controls: Any, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return z-scores and p-values of all pairs of one state, ``(n_pairs, n_genes)`` each.

    illico ranks the controls once for all pairs, where scanpy ranks them again for every pair.
    """
    import anndata as ad
    import illico
    import pandas as pd
    from loguru import logger
    from numba import get_num_threads

    logger.disable("illico")
    if sp.issparse(cells) != sp.issparse(controls):
        cells, controls = (part.toarray() if sp.issparse(part) else part for part in (cells, controls))
    x: Any = sp.vstack([cells, controls], format="csr") if sp.issparse(cells) else np.concatenate([cells, controls])
    if sp.issparse(x):
        x.sort_indices()  # as illico needs them
    labels = np.concatenate([np.searchsorted(pairs, codes), np.full(controls.shape[0], len(pairs))])
    names = [*(str(pair) for pair in pairs), "control"]
    obs = pd.DataFrame({"group": pd.Categorical.from_codes(labels, names)}).set_index(
        pd.RangeIndex(len(labels)).astype(str)
    )
    with contextlib.redirect_stderr(io.StringIO()):  # hides illico's progress bar
        table = illico.asymptotic_wilcoxon(
            ad.AnnData(x.astype(np.float32), obs=obs),
            is_log1p=True,
            group_keys="group",
            reference="control",
            use_continuity=False,
            tie_correct=True,
            # Not the number of processors: NUMBA_NUM_THREADS may allow fewer.
            n_threads=get_num_threads(),
        )
    table = table.loc[names[:-1]]
    shape = (len(pairs), x.shape[1])
    z = table["z_score"].to_numpy(dtype=float).reshape(shape)
    p = table["p_value"].to_numpy(dtype=float).reshape(shape)
    # NaN stands for a gene with the same value in all cells: no change, and no evidence of one.
    return np.nan_to_num(z), np.where(np.isnan(p), 1.0, p)
