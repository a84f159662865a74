import numpy as np
import pytest
import scipy.sparse as sp

from perturbench.data.sparse import row_slices, stack_rows


@pytest.mark.parametrize(("n_rows", "expected"), [(0, []), (4, [(0, 4)]), (9, [(0, 4), (4, 8), (8, 9)])])
def test_row_slices_cover_all_rows_once(n_rows, expected):
    assert [(rows.start, rows.stop) for rows in row_slices(n_rows, 4)] == expected


def test_stacked_blocks_are_the_whole_matrix():
    x = sp.random(9, 5, 0.4, format="csr", random_state=0, dtype=np.float32)
    stacked = stack_rows((x[rows] for rows in row_slices(9, 4)), 5)
    assert np.array_equal(stacked.toarray(), x.toarray())
    assert stack_rows([], 5).shape == (0, 5)
