"""The data card: what a data set holds, where it comes from, and how to cite it."""

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

_ROWS = 4096


def data_card(adata: ad.AnnData, keys: Keys, about: Mapping[str, Any]) -> dict[str, Any]:
    """Describe curated cells.

    Parameters
    ----------
    adata
        Counts ``(n_cells, n_genes)``, in memory or backed; read in blocks of rows.
    keys
        The columns after curation.
    about
        What the cells do not show: name, citation, licence, source.

    Returns
    -------
    JSON-like: ``about``, sizes, median depth (counts per cell) and genes per cell, perturbations, a table of states
    with their cells, controls and perturbations, and the fingerprint of counts, ``obs`` and gene names.
    """
    groups = Groups.from_obs(adata.obs, keys)
    n_singles = [len(keys.singles(name)) for name in groups.conditions if name != keys.control]
    depth, genes = _totals(adata)
    return {
        **about,
        "cells": adata.n_obs,
        "genes": adata.n_vars,
        "counts per cell (median)": float(np.median(depth)),
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
            "perturbations": sum(where == state for where, _ in pairs),
        }
        for code, state in enumerate(groups.states)
    ]


def _totals(adata: ad.AnnData) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts and the number of genes of each cell, ``(n_cells,)`` each."""
    depth, genes = np.zeros(adata.n_obs), np.zeros(adata.n_obs)
    for rows in row_slices(adata.n_obs, _ROWS):
        block = sp.csr_matrix(adata.X[rows])
        depth[rows] = np.asarray(block.sum(axis=1)).ravel()
        genes[rows] = block.getnnz(axis=1)
    return depth, genes
