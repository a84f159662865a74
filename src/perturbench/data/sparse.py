"""Blocks of rows: their slices, and stacking them without holding them twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def stack_rows(blocks: Iterable[sp.csr_matrix], n_columns: int) -> sp.csr_matrix:
    """Return the blocks below each other as one CSR float32 matrix.

    ``scipy.sparse.vstack`` holds the blocks and their copy at once; here each block is freed as it is copied.

    Parameters
    ----------
    blocks
        Matrices ``(n_rows_of_the_block, n_columns)``. Pass a generator, so that the caller holds none of them.
    n_columns
        Number of columns, for the case that there are no blocks.
    """
    held = list(blocks)
    lengths = np.concatenate([[0], *(np.diff(block.indptr) for block in held)])
    indptr = np.cumsum(lengths, dtype=np.int64)
    data = np.empty(indptr[-1], dtype=np.float32)
    indices = np.empty(indptr[-1], dtype=np.int32)
    held.reverse()
    end = 0
    while held:
        block = held.pop()
        start, end = end, end + block.nnz
        data[start:end], indices[start:end] = block.data, block.indices
    if indptr[-1] <= np.iinfo(np.int32).max:
        indptr = indptr.astype(np.int32)
    return sp.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, n_columns))
