"""Sums of expression per group of cells, computed in one pass; means and variances follow from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from perturbench.data.sparse import row_slices, sum_repeated

if TYPE_CHECKING:
    from collections.abc import Iterator

    import anndata as ad

#: Cells per block.
_ROWS = 8192
#: Up to this many (group, gene) entries, the sums of a sparse block are counted into a dense array, which is faster;
#: beyond that, a sparse product needs less memory.
_MAX_DENSE_ENTRIES = 20_000_000
#: A sparse block with a larger share of nonzero values than this is converted to a dense one.
_MAX_SPARSE_DENSITY = 0.3


class GroupSums:
    """Sums of expression per group, and optionally sums of squares, added up block by block.

    Parameters
    ----------
    n_groups, n_genes
        Number of groups and of genes.
    squares
        Whether to sum squares as well; variances need them.

    Attributes
    ----------
    sums, squares
        Sums of expression and of squared expression, ``(n_groups, n_genes)`` float64; ``squares`` is ``None`` if
        squares are not summed.
    counts
        Number of cells per group, ``(n_groups,)``.
    """

    def __init__(self, n_groups: int, n_genes: int, *, squares: bool = False) -> None:
        self.sums = np.zeros((n_groups, n_genes))
        self.squares = np.zeros((n_groups, n_genes)) if squares else None
        self.counts = np.zeros(n_groups, dtype=np.int64)

    def add(self, block: np.ndarray | sp.csr_matrix, codes: np.ndarray) -> None:
        """Add a block of cells ``(n_cells, n_genes)`` to the groups in ``codes`` ``(n_cells,)``; -1 skips a cell."""
        if (codes < 0).any():
            in_group = codes >= 0
            block, codes = block[in_group], codes[in_group]
        if not len(codes):
            return
        self.counts += np.bincount(codes, minlength=len(self.counts))
        if sp.issparse(block):
            self._add_sparse(block, codes)
        else:
            self._add_dense(np.asarray(block), codes)

    def _add_dense(self, block: np.ndarray, codes: np.ndarray) -> None:
        # Rows of a group have to be next to each other, to be summed as one run.
        if (np.diff(codes) < 0).any():
            order = np.argsort(codes, kind="stable")
            block, codes = block[order], codes[order]
        starts = np.flatnonzero(np.diff(codes, prepend=codes[0] - 1))
        present = codes[starts]
        runs = np.split(block, starts[1:])  # np.add.reduceat gives the same sums and takes ten times as long
        self.sums[present] += [run.sum(axis=0, dtype=np.float64) for run in runs]
        if self.squares is not None:
            self.squares[present] += [np.square(run, dtype=np.float64).sum(axis=0) for run in runs]

    def _add_sparse(self, block: sp.csr_matrix, codes: np.ndarray) -> None:
        n_genes = block.shape[1]
        present, positions = np.unique(codes, return_inverse=True)
        dense = len(present) * n_genes <= _MAX_DENSE_ENTRIES
        if dense:
            # Each stored value gets the flat index of its (group, gene), so that one bincount sums the whole block.
            flat = np.repeat(positions * n_genes, np.diff(block.indptr))
            flat += block.indices
        for total, power in ((self.sums, 1), (self.squares, 2)):
            if total is None:
                continue
            values = block.data.astype(np.float64) ** power
            if dense:
                counted = np.bincount(flat, weights=values, minlength=len(present) * n_genes)
                total[present] += counted.reshape(len(present), n_genes)
            else:
                # (groups, cells) @ (cells, genes) sums the cells of each group.
                membership = sp.csr_matrix((np.ones(len(codes)), (codes, np.arange(len(codes)))))
                sums = (membership @ sp.csr_matrix((values, block.indices, block.indptr), block.shape)).tocoo()
                total[sums.row, sums.col] += sums.data

    @property
    def means(self) -> np.ndarray:
        """Mean expression per group, ``(n_groups, n_genes)``; NaN for a group without cells."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.sums / self.counts[:, None]

    def moments(self, group: int) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and unbiased variance of one group, ``(n_genes,)`` each; the variance of a single cell is 0.

        Raises
        ------
        ValueError
            If squares are not summed.
        """
        if self.squares is None:
            raise ValueError("variances need GroupSums(..., squares=True)")
        n_cells = self.counts[group]
        means = self.sums[group] / n_cells
        return means, (self.squares[group] / n_cells - means**2) * (n_cells / max(n_cells - 1, 1))


def blocks(x: Any, n_rows: int = _ROWS) -> Iterator[tuple[slice, Any]]:
    """Yield slices of rows and their values, so that a backed or huge matrix is never read whole.

    A sparse block with few zeros is converted to a dense array, because every later step is faster on it.
    """
    for rows in row_slices(x.shape[0], n_rows):
        block = x[rows]
        if not sp.issparse(block):
            yield rows, np.asarray(block)
        elif block.nnz > _MAX_SPARSE_DENSITY * block.shape[0] * block.shape[1]:
            yield rows, block.toarray()
        else:
            yield rows, sum_repeated(block)


def group_means(adata: ad.AnnData, codes: np.ndarray, n_groups: int) -> np.ndarray:
    """Return the mean expression of each group.

    Parameters
    ----------
    adata
        Cells, ``(n_cells, n_genes)``; sparse, dense or backed by a file.
    codes
        Group of each cell, ``(n_cells,)``; -1 for cells in no group.
    n_groups
        Number of groups.

    Returns
    -------
    ``(n_groups, n_genes)`` float64; NaN for a group without cells.
    """
    sums = GroupSums(n_groups, adata.n_vars)
    for rows, block in blocks(adata.X):
        sums.add(block, codes[rows])
    return sums.means
