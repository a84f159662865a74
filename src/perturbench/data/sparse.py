"""Putting blocks of rows together without holding them twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Iterable


def stack_rows(blocks: Iterable[sp.csr_matrix], n_columns: int) -> sp.csr_matrix:
    """Return the blocks below each other as one CSR float32 matrix.

    ``scipy.sparse.vstack`` holds the blocks and their copy at once; here each block is freed as it is copied.

    Parameters
    ----------
    blocks
        Matrices ``(n_rows_of_the_block, n_columns)``; a generator is best, nobody else then keeps them.
    n_columns
        Their width, which an empty sequence would not tell.
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
