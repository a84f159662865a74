import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp

from perturbench.preprocessing.normalisation import count_blocks, log_normalise


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_blocks_cover_all_cells_once(screen, small_blocks, form):
    x = screen.X.toarray()
    found = list(count_blocks(form(x)))
    assert [rows.stop - rows.start for rows, _ in found] == [170] * 7 + [10]
    assert all(sp.isspmatrix_csr(block) and block.dtype == np.float32 for _, block in found)
    assert np.array_equal(sp.vstack([block for _, block in found]).toarray(), x)


def test_blocks_of_a_file_with_some_genes(screen, small_blocks, backed):
    genes = np.arange(60) % 3 == 0
    found = sp.vstack([block for _, block in count_blocks(backed(screen).X, genes)])
    assert np.array_equal(found.toarray(), screen.X.toarray()[:, genes])


def test_log_normalised_expression_equals_scanpy(screen):
    expected = screen.copy()
    sc.pp.normalize_total(expected, target_sum=500)
    sc.pp.log1p(expected)
    counts = sp.csr_matrix(screen.X, dtype=np.float32)
    normalised = log_normalise(counts, 500)
    assert np.array_equal(normalised.toarray(), expected.X.toarray())
    assert np.array_equal(counts.toarray(), screen.X.toarray()), "the input is not changed"


def test_totals_may_include_other_genes(screen, small_blocks):
    counts = sp.csr_matrix(screen.X, dtype=np.float32)
    some = log_normalise(counts[:, :5], 500, counts[:, 5:].sum(axis=1).A1)
    assert np.array_equal(some.toarray(), log_normalise(counts, 500)[:, :5].toarray())


def test_stored_zeros_are_kept(screen):
    counts = sp.csr_matrix(screen.X, dtype=np.float32)
    counts.data[::3] = 0
    normalised = log_normalise(counts, 500, np.ones(counts.shape[0], np.float32))
    assert np.array_equal(normalised.indices, counts.indices)
    assert np.array_equal(normalised.data == 0, counts.data == 0)


@pytest.mark.filterwarnings("error")
def test_cells_without_counts_stay_empty(screen):
    counts = sp.csr_matrix(screen.X, dtype=np.float32)
    counts[3] = 0
    normalised = log_normalise(counts, 500)
    assert normalised[3].sum() == 0
    assert np.array_equal(normalised[4:].toarray(), log_normalise(counts[4:], 500).toarray())
