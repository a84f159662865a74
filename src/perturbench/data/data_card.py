"""The data card: a summary of a data set, its source and its citation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from perturbench.data.groups import Groups
from perturbench.data.sparse import row_slices
from perturbench.provenance import fingerprint_adata

if TYPE_CHECKING:
    from collections.abc import Mapping

    import anndata as ad

    from perturbench.data.groups import Keys

#: Cells read at a time, so that a file is never read whole.
_ROWS = 4096


def data_card(adata: ad.AnnData, keys: Keys, about: Mapping[str, Any]) -> dict[str, Any]:
    """Summarise a curated data set.

    Parameters
    ----------
    adata
        Raw counts, ``(n_cells, n_genes)``, in memory or backed by a file; read in blocks of rows.
    keys
        Names of the curated ``obs`` columns with the perturbation and the covariates.
    about
        Facts that cannot be computed from the cells: name, citation, licence, source.

    Returns
    -------
    A JSON-serialisable dictionary: ``about``; the numbers of cells, genes and perturbations; the medians of counts and
    of genes per cell; one entry per state with its numbers of cells, controls and perturbations; and the fingerprint
    of counts, ``obs`` and gene names.
    """
    groups = Groups.from_obs(adata.obs, keys)
    n_singles = [len(keys.singles(name)) for name in groups.conditions if name != keys.control]
    counts, genes = _counts_and_genes_per_cell(adata)
    return {
        **about,
        "cells": adata.n_obs,
        "genes": adata.n_vars,
        "counts per cell (median)": float(np.median(counts)),
        "genes per cell (median)": float(np.median(genes)),
        "density": round(float(genes.sum() / max(1, adata.n_obs * adata.n_vars)), 4),
        "control cells": int(groups.is_control.sum()),
        "perturbations": len(n_singles),
        "singles": n_singles.count(1),
        "combinations": sum(n > 1 for n in n_singles),
        "states": _states(groups),
        "fingerprint": fingerprint_adata(adata),
    }


def _states(groups: Groups) -> list[dict[str, Any]]:
    pairs = groups.pairs()
    return [
        dict(zip(groups.keys.covariates, state, strict=True))
        | {
            "cells": int((groups.state_codes == code).sum()),
            "controls": int((groups.is_control & (groups.state_codes == code)).sum()),
            "perturbations": sum(pair_state == state for pair_state, _ in pairs),
        }
        for code, state in enumerate(groups.states)
    ]


def _counts_and_genes_per_cell(adata: ad.AnnData) -> tuple[np.ndarray, np.ndarray]:
    """Return the total count and the number of expressed genes of each cell, ``(n_cells,)`` each."""
    counts, genes = np.zeros(adata.n_obs), np.zeros(adata.n_obs)
    for rows in row_slices(adata.n_obs, _ROWS):
        block = sp.csr_matrix(adata.X[rows])
        counts[rows] = np.asarray(block.sum(axis=1)).ravel()
        genes[rows] = block.getnnz(axis=1)
    return counts, genes
