"""Cells that are read in blocks, and samples of a stream of them."""

import numpy as np
import pytest
import scipy.sparse as sp

from perturbench.analysis.profiles import Cells, SampledCells

X = np.arange(12.0).reshape(6, 2)
CODES = np.array([1, 0, -1, 1, 2, 0])


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_cells_of_some_groups_keep_their_order(form):
    taken, codes = Cells(form(X), CODES, columns=np.array([1, 0])).take(np.array([0, 1]))
    rows = [0, 1, 3, 5]
    assert codes.tolist() == [1, 0, 1, 0]
    assert (taken.toarray() if sp.issparse(taken) else taken).tolist() == X[rows][:, ::-1].tolist()


def test_a_sample_is_the_first_cells_of_each_group():
    sample = SampledCells(3, limit=2)
    stream = [(0, 10), (0, 11), (2, 12), (0, 13), (1, 14), (2, 15), (2, 16), (0, 17)]
    for batch in (stream[:3], stream[3:5], stream[5:]):
        sample.add(np.array([[value] for _, value in batch]), np.array([code for code, _ in batch]))
    cells = sample.cells()
    kept = {code: cells.take(np.array([code]))[0].ravel().tolist() for code in range(3)}
    assert kept == {0: [10, 11], 1: [14], 2: [12, 15]}
