"""The cells of one side of an evaluation, read in blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from perturbench.data.group_sums import GroupSums, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator


class Cells:
    """Cells of one side of an evaluation: a matrix that is read in blocks, and the group of each row.

    Parameters
    ----------
    x
        ``(n_cells, n_columns)``; sparse, dense or backed.
    codes
        Group of each row, ``(n_cells,)``; -1 for rows that are not used.
    columns
        Columns of ``x`` that hold the reference's genes, in their order; ``None`` if ``x`` has exactly these columns
        in this order.
    """

    def __init__(self, x: Any, codes: np.ndarray, columns: np.ndarray | None = None) -> None:
        self.x, self.codes, self.columns = x, codes, columns

    def blocks(self) -> Iterator[tuple[np.ndarray, Any]]:
        """Yield blocks of rows: their group codes, and their values with genes in the reference's order."""
        for rows, block in blocks(self.x):
            yield self.codes[rows], self._select_genes(block)

    def take(self, groups: np.ndarray) -> tuple[Any, np.ndarray]:
        """Return the cells of some groups, ``(n, n_genes)`` sparse or dense, and their group codes ``(n,)``."""
        selected = np.isin(self.codes, groups)
        parts = []
        for rows, block in blocks(self.x):
            in_block = selected[rows]
            if in_block.any():
                parts.append(self._select_genes(block[in_block]))
        if all(map(sp.issparse, parts)):
            return sp.vstack(parts, format="csr"), self.codes[selected]
        dense = [part.toarray() if sp.issparse(part) else part for part in parts]
        return np.concatenate(dense), self.codes[selected]

    def _select_genes(self, block: Any) -> Any:
        return block if self.columns is None else block[:, self.columns]


class SampledCells:
    """A bounded sample of a stream of cells: the first ``limit`` cells of each group.

    Parameters
    ----------
    n_groups
        Number of groups.
    limit
        Largest number of cells to keep of each group.
    """

    def __init__(self, n_groups: int, limit: int) -> None:
        self._room = np.full(n_groups, limit)
        self._parts: list[np.ndarray] = []
        self._codes: list[np.ndarray] = []

    def add(self, block: np.ndarray, codes: np.ndarray) -> None:
        """Add cells ``(n_cells, n_genes)`` of groups ``(n_cells,)``, as many of each group as there is room for."""
        order = np.argsort(codes, kind="stable")
        counts = np.bincount(codes, minlength=len(self._room))
        # Position of each sorted cell within its group: its position among all, less where its group begins.
        position = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
        kept = order[position < self._room[codes[order]]]
        self._room -= np.minimum(self._room, counts)
        if len(kept):
            self._parts.append(block[kept])
            self._codes.append(codes[kept])

    def cells(self) -> Cells:
        """Return the sample."""
        return Cells(np.concatenate(self._parts), np.concatenate(self._codes))


def sum_with_squares(cells: Cells, n_groups: int, n_genes: int) -> GroupSums:
    """Sum the expression of each group's cells, and its squares, for variances."""
    sums = GroupSums(n_groups, n_genes, squares=True)
    for codes, block in cells.blocks():
        sums.add(block, codes)
    return sums
