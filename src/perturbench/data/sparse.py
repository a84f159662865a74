"""Blocks of rows: their slices, and stacking them into one sparse matrix without doubling the memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def row_slices(n_rows: int, size: int) -> Iterator[slice]:
    """Yield the slices of blocks of ``size`` rows; the last block may be shorter.

    scikit-learn's ``gen_batches`` does the same, but takes seconds to import and refuses 0 rows.
    """
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


def sum_repeated(matrix: Any) -> sp.csr_matrix:
    """Return a matrix as CSR with sorted indices and one value per entry; the input is not changed.

    Some tools store several values for one entry. Their sum is the value, and squares or logarithms need the sum.
    """
    csr = sp.csr_matrix(matrix)
    if not csr.has_canonical_format:
        csr = csr.copy()
        csr.sum_duplicates()
    return csr


def stack_rows(blocks: Iterable[sp.csr_matrix], n_columns: int) -> sp.csr_matrix:
    """Stack blocks of rows into one CSR float32 matrix.

    ``scipy.sparse.vstack`` needs memory for all blocks and for their copy at once. This function frees each block as
    soon as it is copied.

    Parameters
    ----------
    blocks
        CSR matrices, ``(n_rows, n_columns)`` each. Pass a generator: a list that the caller keeps would hold every
        block in memory until the end.
    n_columns
        Number of columns, which cannot be read off an empty sequence of blocks.
    """
    remaining = list(blocks)
    lengths = np.concatenate([[0], *(np.diff(block.indptr) for block in remaining)])
    indptr = np.cumsum(lengths, dtype=np.int64)
    data = np.empty(indptr[-1], dtype=np.float32)
    indices = np.empty(indptr[-1], dtype=np.int32)
    # Popping from the end of the reversed list drops the last reference to a block, which frees it.
    remaining.reverse()
    end = 0
    while remaining:
        block = remaining.pop()
        start, end = end, end + block.nnz
        data[start:end], indices[start:end] = block.data, block.indices
    # scipy needs one integer type for both index arrays, and copies them when they differ.
    if indptr[-1] <= np.iinfo(np.int32).max:
        indptr = indptr.astype(np.int32)
    return sp.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, n_columns))
