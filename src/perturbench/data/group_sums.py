"""One pass over the cells: sums per group, from which every aggregate metric is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from perturbench.data.sparse import row_slices

if TYPE_CHECKING:
    from collections.abc import Iterator

    import anndata as ad

_ROWS = 8192
#: Sums of a block are counted densely up to this many (group, gene) entries, beyond that through a sparse product.
_DENSE = 20_000_000
#: Share of stored values above which a sparse block is made dense.
_HARDLY_SPARSE = 0.3


class GroupSums:
    """Sums, and sums of squares, of expression per group, fed block by block.

    Parameters
    ----------
    n_groups, n_genes
        Size.
    squares
        Whether squares are summed as well, for variances.

    Attributes
    ----------
    sums, squares
        ``(n_groups, n_genes)`` float64; ``squares`` is ``None`` if they are not summed.
    counts
        Cells per group, ``(n_groups,)``.
    """

    def __init__(self, n_groups: int, n_genes: int, *, squares: bool = False) -> None:
        self.sums = np.zeros((n_groups, n_genes))
        self.squares = np.zeros((n_groups, n_genes)) if squares else None
        self.counts = np.zeros(n_groups, dtype=np.int64)

    def add(self, block: np.ndarray | sp.csr_matrix, codes: np.ndarray) -> None:
        """Add cells ``(n_cells, n_genes)`` to the groups of their codes ``(n_cells,)``; code -1 is left out."""
        if (codes < 0).any():
            kept = codes >= 0
            block, codes = block[kept], codes[kept]
        if not len(codes):
            return
        self.counts += np.bincount(codes, minlength=len(self.counts))
        if sp.issparse(block):
            self._add_sparse(block, codes)
        else:
            self._add_dense(np.asarray(block), codes)

    def _add_dense(self, block: np.ndarray, codes: np.ndarray) -> None:
        if (np.diff(codes) < 0).any():
            order = np.argsort(codes, kind="stable")
            block, codes = block[order], codes[order]
        starts = np.flatnonzero(np.diff(codes, prepend=codes[0] - 1))
        present = codes[starts]
        self.sums[present] += np.add.reduceat(block, starts, axis=0, dtype=np.float64)
        if self.squares is not None:
            self.squares[present] += np.add.reduceat(np.square(block, dtype=np.float64), starts, axis=0)

    def _add_sparse(self, block: sp.csr_matrix, codes: np.ndarray) -> None:
        n_genes = block.shape[1]
        present, own = np.unique(codes, return_inverse=True)
        dense = len(present) * n_genes <= _DENSE
        if dense:
            flat = np.repeat(own * n_genes, np.diff(block.indptr))
            flat += block.indices
        for total, power in ((self.sums, 1), (self.squares, 2)):
            if total is None:
                continue
            values = block.data.astype(np.float64) ** power
            if dense:
                counted = np.bincount(flat, weights=values, minlength=len(present) * n_genes)
                total[present] += counted.reshape(len(present), n_genes)
            else:
                indicator = sp.csr_matrix((np.ones(len(codes)), (codes, np.arange(len(codes)))))
                part = (indicator @ sp.csr_matrix((values, block.indices, block.indptr), block.shape)).tocoo()
                total[part.row, part.col] += part.data

    @property
    def means(self) -> np.ndarray:
        """Mean expression per group, ``(n_groups, n_genes)``; NaN for a group without cells."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.sums / self.counts[:, None]

    def moments(self, group: int) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and unbiased variance of one group, ``(n_genes,)`` each; a single cell varies by 0.

        Raises
        ------
        ValueError
            If squares are not summed.
        """
        if self.squares is None:
            raise ValueError("variances need GroupSums(squares=True)")
        n_cells = self.counts[group]
        means = self.sums[group] / n_cells
        return means, (self.squares[group] / n_cells - means**2) * (n_cells / max(n_cells - 1, 1))


def blocks(x: Any, n_rows: int = _ROWS) -> Iterator[tuple[slice, Any]]:
    """Yield slices of rows and their values, so that a backed or huge matrix is never read whole.

    A block that is stored sparse but hardly is comes as an array: every later step is faster on it.
    """
    for rows in row_slices(x.shape[0], n_rows):
        block = x[rows]
        if not sp.issparse(block):
            yield rows, np.asarray(block)
        elif block.nnz > _HARDLY_SPARSE * block.shape[0] * block.shape[1]:
            yield rows, block.toarray()
        else:
            yield rows, block.tocsr()


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
