"""One pass over the cells: sums per group, from which every aggregate metric is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Iterator

    import anndata as ad

_ROWS = 8192


class GroupSums:
    """Sums of expression per group, fed block by block.

    Attributes
    ----------
    sums
        ``(n_groups, n_genes)`` float64.
    counts
        Cells per group, ``(n_groups,)``.
    """

    def __init__(self, n_groups: int, n_genes: int) -> None:
        self.sums = np.zeros((n_groups, n_genes))
        self.counts = np.zeros(n_groups, dtype=np.int64)

    def add(self, block: np.ndarray | sp.csr_matrix, codes: np.ndarray) -> None:
        """Add cells ``(n_cells, n_genes)`` to the groups of their codes ``(n_cells,)``; code -1 is left out."""
        kept = np.flatnonzero(codes >= 0)
        indicator = sp.csr_matrix(
            (np.ones(len(kept)), (codes[kept], kept)), shape=(len(self.counts), len(codes)), dtype=np.float64
        )
        part = indicator @ (block if sp.issparse(block) else np.asarray(block, dtype=np.float64))
        self.sums += part.toarray() if sp.issparse(part) else part
        self.counts += np.bincount(codes[kept], minlength=len(self.counts))

    @property
    def means(self) -> np.ndarray:
        """Mean expression per group, ``(n_groups, n_genes)``; NaN for a group without cells."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.sums / self.counts[:, None]


def blocks(x: Any) -> Iterator[tuple[slice, Any]]:
    """Yield slices of rows and their values, so that a backed or huge matrix is never read whole."""
    for start in range(0, x.shape[0], _ROWS):
        rows = slice(start, min(start + _ROWS, x.shape[0]))
        block = x[rows]
        yield rows, block.tocsr() if sp.issparse(block) else np.asarray(block)


def group_means(adata: ad.AnnData, codes: np.ndarray, n_groups: int) -> np.ndarray:
    """Return the mean expression of each group.

    Parameters
    ----------
    adata
        Cells ``(n_cells, n_genes)``; sparse, dense or backed.
    codes
        Group of each cell, ``(n_cells,)``; -1 for none.
    n_groups
        How many groups.

    Returns
    -------
    ``(n_groups, n_genes)`` float64; NaN for a group without cells.
    """
    sums = GroupSums(n_groups, adata.n_vars)
    for rows, block in blocks(adata.X):
        sums.add(block, codes[rows])
    return sums.means
