"""Reading of counts in blocks of cells, and their log-normalisation."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import anndata as ad
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


def log_normalise(counts: sp.csr_matrix, target_sum: float, rest: np.ndarray | None = None) -> sp.csr_matrix:
    """Log-normalise counts with scanpy's ``normalize_total`` and ``log1p``, block by block.

    scanpy's functions need several times the memory of their matrix, and take the total of a cell over the genes that
    they are given. Here the genes may be a selection: ``rest`` takes part as one more gene, and is then dropped.

    Parameters
    ----------
    counts
        Raw counts, ``(n_cells, n_genes)`` CSR float32; not changed.
    target_sum
        Total count of each cell after normalisation, over all genes.
    rest
        Counts of each cell in genes that are not in ``counts``, ``(n_cells,)``; by default, there are none.

    Returns
    -------
    ``(n_cells, n_genes)`` CSR float32, with values stored where ``counts`` has them.
    """
    values = np.empty_like(counts.data)
    for rows in row_slices(counts.shape[0], _ROWS):
        block = counts[rows]
        if rest is not None:
            block = sp.hstack([block, sp.csr_matrix(rest[rows, None], dtype=np.float32)], format="csr")
        normalised = _normalise_block(block, target_sum)
        values[counts.indptr[rows.start] : counts.indptr[rows.stop]] = normalised[:, : counts.shape[1]].data
    return sp.csr_matrix((values, counts.indices.copy(), counts.indptr.copy()), counts.shape)


def _normalise_block(counts: sp.csr_matrix, target_sum: float) -> sp.csr_matrix:
    import scanpy as sc

    block = ad.AnnData(counts)
    with warnings.catch_warnings():
        # They stay 0 here; ``prepare`` refuses them and names them.
        warnings.filterwarnings("ignore", message="Some cells have zero counts")
        sc.pp.normalize_total(block, target_sum=target_sum)
    sc.pp.log1p(block)
    return block.X
