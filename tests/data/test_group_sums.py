import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from perturbench.data import group_sums
from perturbench.data.group_sums import GroupSums, blocks, group_means

CODES = np.array([2, 0, -1, 2, 0, 2, 3, 0, 2])


@pytest.fixture
def values():
    """9 cells of 5 genes; group 1 has no cell and group 3 has one."""
    return np.random.default_rng(0).poisson(1.0, (9, 5)).astype(np.float32)


def test_cells_with_code_minus_one_are_left_out():
    sums = GroupSums(3, 2)
    sums.add(np.array([[1.0, 2.0], [np.nan, np.inf], [3.0, 4.0]]), np.array([0, -1, 0]))
    sums.add(np.array([[5.0, 6.0]], dtype=np.float32), np.array([2]))
    assert sums.counts.tolist() == [2, 0, 1]
    assert sums.means[[0, 2]].tolist() == [[2.0, 3.0], [5.0, 6.0]]
    assert np.isnan(sums.means[1]).all()


@pytest.mark.parametrize("max_dense_entries", [0, 20_000_000])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_sums_and_moments_equal_those_of_the_cells(values, form, max_dense_entries, monkeypatch):
    monkeypatch.setattr(group_sums, "_MAX_DENSE_ENTRIES", max_dense_entries)
    sums = GroupSums(4, 5, squares=True)
    for rows in (slice(0, 4), slice(4, 9)):
        sums.add(form(values)[rows], CODES[rows])
    assert sums.counts.tolist() == [3, 0, 4, 1]
    for group in (0, 2):
        cells = values[CODES == group]
        mean, variance = sums.moments(group)
        assert sums.sums[group] == pytest.approx(cells.sum(axis=0))
        assert mean == pytest.approx(cells.mean(axis=0))
        assert variance == pytest.approx(cells.var(axis=0, ddof=1))
    assert sums.moments(3)[1].tolist() == [0.0] * 5, "the variance of a single cell is 0"


def test_moments_need_squares():
    with pytest.raises(ValueError, match="squares=True"):
        GroupSums(1, 1).moments(0)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_blocks_cover_all_rows_once(values, form):
    found = list(blocks(form(values), 4))
    assert [rows for rows, _ in found] == [slice(0, 4), slice(4, 8), slice(8, 9)]
    dense = [block.toarray() if sp.issparse(block) else block for _, block in found]
    assert np.array_equal(np.concatenate(dense), values)


def test_sparse_blocks_with_few_zeros_become_dense():
    few, many = np.ones((4, 4)), np.eye(4)
    assert isinstance(next(blocks(sp.csr_matrix(few)))[1], np.ndarray)
    assert sp.issparse(next(blocks(sp.csr_matrix(many)))[1])


def test_group_means(values):
    means = group_means(ad.AnnData(sp.csr_matrix(values)), CODES, 4)
    assert means[2] == pytest.approx(values[CODES == 2].mean(axis=0))
    assert np.isnan(means[1]).all()
