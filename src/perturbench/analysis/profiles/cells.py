"""The cells of one side of an evaluation, read in blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from perturbench.data.group_sums import GroupSums, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator


class Cells:
    """The cells of one side: a matrix that is read in blocks, and the group of each row.

    Parameters
    ----------
    x
        ``(n_cells, n_columns)``; sparse, dense or backed.
    codes
        Group of each row, ``(n_cells,)``; -1 for rows that are not used.
    columns
        Positions of the reference's genes; ``None`` if they are the columns.
    """

    def __init__(self, x: Any, codes: np.ndarray, columns: np.ndarray | None = None) -> None:
        self.x, self.codes, self.columns = x, codes, columns

    def blocks(self) -> Iterator[tuple[np.ndarray, Any]]:
        """Yield the codes and values of blocks of rows, genes in the reference's order."""
        for rows, block in blocks(self.x):
            yield self.codes[rows], block if self.columns is None else block[:, self.columns]

    def take(self, wanted: np.ndarray) -> tuple[Any, np.ndarray]:
        """Return the rows of some groups, ``(n, n_genes)`` sparse or dense, and their codes."""
        chosen = np.isin(self.codes, wanted)
        parts = []
        for rows, block in blocks(self.x):
            here = chosen[rows]
            if here.any():
                kept = block[here]
                parts.append(kept if self.columns is None else kept[:, self.columns])
        if all(map(sp.issparse, parts)):
            return sp.vstack(parts, format="csr"), self.codes[chosen]
        dense = [part.toarray() if sp.issparse(part) else part for part in parts]
        return np.concatenate(dense), self.codes[chosen]


class SampledCells:
    """Cells kept of a stream: at most so many of each group, the first ones.

    Parameters
    ----------
    n_groups
        How many groups.
    limit
        Cells of a group to keep.
    """

    def __init__(self, n_groups: int, limit: int) -> None:
        self._room = np.full(n_groups, limit)
        self._parts: list[np.ndarray] = []
        self._codes: list[np.ndarray] = []

    def add(self, block: np.ndarray, codes: np.ndarray) -> None:
        """Keep what there is room for of cells ``(n_cells, n_genes)`` of groups ``(n_cells,)``."""
        order = np.argsort(codes, kind="stable")
        counts = np.bincount(codes, minlength=len(self._room))
        place = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
        kept = order[place < self._room[codes[order]]]
        self._room -= np.minimum(self._room, counts)
        if len(kept):
            self._parts.append(block[kept])
            self._codes.append(codes[kept])

    def cells(self) -> Cells:
        """Return what was kept."""
        return Cells(np.concatenate(self._parts), np.concatenate(self._codes))


def moments_of(cells: Cells, n_groups: int, n_genes: int) -> GroupSums:
    """Sum cells and their squares per group."""
    sums = GroupSums(n_groups, n_genes, squares=True)
    for codes, block in cells.blocks():
        sums.add(block, codes)
    return sums
