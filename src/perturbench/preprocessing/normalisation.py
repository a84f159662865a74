"""Reading of counts in blocks of cells, and their log-normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from perturbench.data.sparse import row_slices

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Cells per block. Small, because the intermediate results of a block take several times its memory.
_ROWS = 4096


def count_blocks(x: Any, genes: np.ndarray | None = None) -> Iterator[tuple[slice, sp.csr_matrix]]:
    """Yield slices of rows and their counts as CSR float32, so that a backed matrix is never read whole.

    Parameters
    ----------
    x
        Counts, ``(n_cells, n_genes)``; sparse, dense or backed by a file.
    genes
        Mask of the genes to read, ``(n_genes,)``; by default, all genes.
    """
    for rows in row_slices(x.shape[0], _ROWS):
        counts = sp.csr_matrix(x[rows], dtype=np.float32)
        yield rows, counts if genes is None or genes.all() else counts[:, np.flatnonzero(genes)]


def total_counts(counts: sp.csr_matrix) -> np.ndarray:
    """Return the total count of each cell, ``(n_cells,)`` float32."""
    # Summed in float64 and rounded once: sums in float32 would depend on the order of the genes.
    return (counts @ np.ones(counts.shape[1])).astype(np.float32)


def log_normalise(counts: sp.csr_matrix, totals: np.ndarray, target_sum: float) -> sp.csr_matrix:
    """Log-normalise counts as scanpy's ``normalize_total`` and ``log1p`` do.

    Parameters
    ----------
    counts
        Raw counts, ``(n_cells, n_genes)``.
    totals
        Total count of each cell, ``(n_cells,)``. It may include genes that are not in ``counts``.
    target_sum
        Total count of each cell after normalisation.

    Returns
    -------
    CSR float32, ``(n_cells, n_genes)``.
    """
    # One array, changed in place: a large data set has no room for intermediate results.
    values = np.repeat(totals / np.float32(target_sum), np.diff(counts.indptr))
    np.divide(counts.data, values, out=values)
    np.log1p(values, out=values)
    return sp.csr_matrix((values, counts.indices.copy(), counts.indptr.copy()), counts.shape)
