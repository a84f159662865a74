import numpy as np
import pytest
import scipy.sparse as sp

from perturbench.data.sparse import row_slices, stack_rows


@pytest.mark.parametrize("sizes", [[3, 0, 5], [8], [1] * 8, []])
def test_result_equals_vstack_of_scipy(sizes):
    values = sp.random(sum(sizes), 6, 0.4, "csr", dtype=np.float64, random_state=0)
    ends = np.cumsum(sizes, dtype=int)
    stacked = stack_rows((values[end - size : end] for size, end in zip(sizes, ends, strict=True)), 6)
    assert stacked.shape == values.shape
    assert stacked.dtype == np.float32
    assert stacked.indices.dtype == stacked.indptr.dtype == np.int32
    assert np.array_equal(stacked.toarray(), values.toarray().astype(np.float32))


@pytest.mark.parametrize(("n_rows", "expected"), [(0, []), (4, [(0, 4)]), (9, [(0, 4), (4, 8), (8, 9)])])
def test_row_slices_cover_all_rows_once(n_rows, expected):
    assert [(rows.start, rows.stop) for rows in row_slices(n_rows, 4)] == expected
