"""Gathered cells have the right values for every format of the matrix, in main memory and on a device."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import torch

from perturbench.data.loading.cell_matrix import CellMatrix

N_CELLS, N_GENES = 23, 7
ROWS = np.array([5, 0, 22, 5, 11, 3])


@pytest.fixture
def values():
    """Counts with many zeros; cells 0 and 11 have only zeros."""
    x = np.random.default_rng(0).poisson(0.7, (N_CELLS, N_GENES))
    x[[0, 11]] = 0
    return x


def unsorted(x):
    """Return the same cells with the genes of each cell in descending order."""
    csr = sp.csr_matrix(x)
    for start, end in zip(csr.indptr[:-1], csr.indptr[1:], strict=True):
        csr.indices[start:end], csr.data[start:end] = csr.indices[start:end][::-1], csr.data[start:end][::-1].copy()
    csr.has_sorted_indices = False
    return csr


def in_two_halves(x):
    """Return the same cells with every entry stored as two entries that add up to it."""
    csr = sp.csr_matrix(x.astype(np.float32))
    return sp.csr_matrix((np.repeat(csr.data / 2, 2), np.repeat(csr.indices, 2), csr.indptr * 2), shape=csr.shape)


def read_only(x):
    array = np.ascontiguousarray(x)
    array.setflags(write=False)
    return array


def read_only_csr(x):
    csr = sp.csr_matrix(x)
    for array in (csr.data, csr.indices, csr.indptr):
        array.setflags(write=False)
    return csr


def on_disk(x, folder, name):
    np.save(folder / f"{name}.npy", x)
    return np.load(folder / f"{name}.npy", mmap_mode="r")


def csr_on_disk(x, folder):
    csr = sp.csr_matrix(x)
    parts = [on_disk(getattr(csr, name), folder, name) for name in ("data", "indices", "indptr")]
    return sp.csr_matrix(tuple(parts), shape=csr.shape, copy=False)


FORMS = {
    "csr": lambda x, _: sp.csr_matrix(x.astype(np.float32)),
    "csr_array": lambda x, _: sp.csr_array(x.astype(np.float32)),
    "csc": lambda x, _: sp.csc_matrix(x.astype(np.float32)),
    "csr_long_indices": lambda x, _: sp.csr_matrix(
        (lambda c: (c.data, c.indices.astype(np.int64), c.indptr.astype(np.int64)))(sp.csr_matrix(x)), shape=x.shape
    ),
    "csr_float64": lambda x, _: sp.csr_matrix(x.astype(np.float64)),
    "csr_int": lambda x, _: sp.csr_matrix(x),
    "csr_unsorted": lambda x, _: unsorted(x.astype(np.float32)),
    "csr_in_two_halves": lambda x, _: in_two_halves(x),
    "csr_read_only": lambda x, _: read_only_csr(x.astype(np.float32)),
    "csr_on_disk": lambda x, folder: csr_on_disk(x.astype(np.float32), folder),
    "dense": lambda x, _: x.astype(np.float32),
    "dense_by_column": lambda x, _: np.asfortranarray(x.astype(np.float32)),
    "dense_float64": lambda x, _: x.astype(np.float64),
    "dense_int": lambda x, _: x,
    "dense_read_only": lambda x, _: read_only(x.astype(np.float32)),
    "dense_on_disk": lambda x, folder: on_disk(x.astype(np.float32), folder, "dense"),
}


@pytest.fixture(params=FORMS)
def matrix(request, values, tmp_path):
    return CellMatrix(ad.AnnData(FORMS[request.param](values, tmp_path)))


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], ROWS[:0], np.arange(N_CELLS)], ids=["some", "one", "none", "all"])
def test_rows_are_the_requested_cells_in_memory_and_on_a_device(matrix, values, rows):
    expected = torch.from_numpy(values.astype(np.float32)[rows])
    host = matrix.rows(rows)
    assert host.dtype == torch.float32
    assert host.is_contiguous()
    assert torch.equal(host, expected)
    matrix.place(torch.device("cpu"))
    placed = matrix.rows(rows)
    assert placed.dtype == torch.float32
    assert torch.equal(placed, expected)


def test_batches_can_be_written_to(matrix, values):
    for device in (None, torch.device("cpu")):
        matrix.place(device)
        matrix.rows(ROWS).add_(1)
        assert torch.equal(matrix.rows(ROWS), torch.from_numpy(values.astype(np.float32)[ROWS]))


def test_cells_are_placed_in_several_blocks(values, monkeypatch):
    monkeypatch.setattr("perturbench.data.loading.cell_matrix._ROWS", 5)
    matrix = CellMatrix(ad.AnnData(sp.csr_matrix(values)))
    matrix.place(torch.device("cpu"))
    assert torch.equal(matrix.rows(np.arange(N_CELLS)), torch.from_numpy(values.astype(np.float32)))


def test_cells_are_placed_and_removed_again(values):
    matrix = CellMatrix(ad.AnnData(sp.csr_matrix(values)))
    assert matrix.device is None
    matrix.place(torch.device("cpu"))
    assert matrix.device == torch.device("cpu")
    matrix.place(None)
    assert matrix.device is None
    assert torch.equal(matrix.rows(ROWS), torch.from_numpy(values.astype(np.float32)[ROWS]))
