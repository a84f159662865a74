"""Counts in blocks of cells, and their log-normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from perturbench.data.sparse import row_slices

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Cells per block; what is computed of a block takes several times its memory.
_ROWS = 4096


def count_blocks(x: Any, genes: np.ndarray | None = None) -> Iterator[tuple[slice, sp.csr_matrix]]:
    """Yield slices of rows and their counts, CSR float32, so that a backed matrix is never read whole.

    Parameters
    ----------
    x
        ``(n_cells, n_genes)``; sparse, dense or backed.
    genes
        Which genes to yield, ``(n_genes,)``; all if not given.
    """
    for rows in row_slices(x.shape[0], _ROWS):
        counts = sp.csr_matrix(x[rows], dtype=np.float32)
        yield rows, counts if genes is None or genes.all() else counts[:, np.flatnonzero(genes)]


def depths_of(counts: sp.csr_matrix) -> np.ndarray:
    """Return the counts of each cell, ``(n_cells,)`` float32."""
    return (counts @ np.ones(counts.shape[1])).astype(np.float32)


def log_normalised(counts: sp.csr_matrix, depths: np.ndarray, target_sum: float) -> sp.csr_matrix:
    """Return what scanpy's ``normalize_total`` and ``log1p`` make of counts, CSR float32.

    The depths ``(n_cells,)`` may count more genes than are given.
    """
    values = np.repeat(depths / np.float32(target_sum), np.diff(counts.indptr))
    np.divide(counts.data, values, out=values)
    np.log1p(values, out=values)
    return sp.csr_matrix((values, counts.indices.copy(), counts.indptr.copy()), counts.shape)
