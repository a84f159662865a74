"""Files from outside are refused before anything computes with them, if they are incomplete or malformed."""

import os
import socket

import h5py
import numpy as np
import pytest
import scipy.sparse as sp

from perturbench.data.h5ad_checks import require_sound_h5ad
from perturbench.errors import PerturbenchError


@pytest.fixture
def path(screen, tmp_path, monkeypatch):
    """Cells with counts in CSR, the same counts dense and in CSC in layers, and in ``raw``; read in small blocks."""
    monkeypatch.setattr("perturbench.data.h5ad_checks._BLOCK", 100)
    screen.raw = screen
    screen.layers["dense"] = screen.X.toarray()
    screen.layers["csc"] = sp.csc_matrix(screen.X)
    screen.write_h5ad(tmp_path / "cells.h5ad", compression="gzip")
    return tmp_path / "cells.h5ad"


def refuse(path, message):
    with pytest.raises(PerturbenchError, match=message) as caught:
        require_sound_h5ad(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sound_files_pass(path):
    require_sound_h5ad(path)
    link = path.with_name("link.h5ad")
    link.symlink_to(path)
    require_sound_h5ad(link)
    with h5py.File(path, "a") as file:
        file["uns/here"] = h5py.SoftLink("/X/data")
        file["uns/circle"] = file["uns"]
    require_sound_h5ad(path)
    with h5py.File(path, "a") as file:
        del file["uns/here"], file["layers"], file["raw"], file["X"]
    require_sound_h5ad(path)


def test_what_is_no_file_or_no_hdf5(tmp_path):
    refuse(tmp_path / "absent.h5ad", "does not exist")
    refuse(tmp_path, "is a folder, not a regular file")
    os.mkfifo(tmp_path / "pipe.h5ad")
    refuse(tmp_path / "pipe.h5ad", "is a pipe, not a regular file")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.h5ad"))
        refuse(tmp_path / "s.h5ad", "is a socket, not a regular file")
    with pytest.raises(PerturbenchError, match="'/dev/null' is a device, not a regular file"):
        require_sound_h5ad("/dev/null")
    (tmp_path / "text.h5ad").write_text("cell,gene\n")
    refuse(tmp_path / "text.h5ad", "is not an HDF5 file; write it with AnnData.write_h5ad")


def test_a_torn_file(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refuse(path, "cannot be read as h5ad: .*the file is damaged")


def external_link(file):
    del file["X/data"]
    file["X/data"] = h5py.ExternalLink("other.h5ad", "/X/data")


def external_link_deep_in_uns(file):
    file["uns/a/b/c"] = h5py.ExternalLink("other.h5ad", "/X")


def soft_link_through_an_external_link(file):
    file["a"] = h5py.SoftLink("/z/X")
    file["z"] = h5py.ExternalLink("other.h5ad", "/")


def dangling_link(file):
    del file["X"]
    file["X"] = h5py.SoftLink("/nothing")


def external_storage(file):
    length = len(file["X/data"])
    del file["X/data"]
    file["X"].create_dataset("data", (length,), "f4", external=[("values.bin", 0, h5py.h5f.UNLIMITED)])


def virtual_dataset(file):
    length = len(file["X/data"])
    del file["X/data"]
    layout = h5py.VirtualLayout((length,), "f4")
    layout[:] = h5py.VirtualSource("other.h5ad", "X/data", (length,))
    file["X"].create_virtual_dataset("data", layout)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (external_link, "'/X/data' is a link to '/X/data' in the file 'other.h5ad'"),
        (external_link_deep_in_uns, "'/uns/a/b/c' is a link to '/X' in the file 'other.h5ad'"),
        (soft_link_through_an_external_link, "'/z' is a link to '/' in the file 'other.h5ad'"),
        (dangling_link, "'/X' is a link to '/nothing', which is not in the file"),
        (external_storage, "'/X/data' is stored in the file '.*values.bin'"),
        (virtual_dataset, "'/X/data' is a virtual dataset"),
    ],
)
def test_data_that_are_elsewhere(path, change, message):
    path.with_name("other.h5ad").write_bytes(path.read_bytes())
    with h5py.File(path, "a") as file:
        change(file)
    refuse(path, f"{message}.*a file must hold all of its data itself: read it with anndata")


def test_an_external_link_is_not_followed(path):
    """Opening a pipe would wait forever."""
    os.mkfifo(path.with_name("pipe"))
    with h5py.File(path, "a") as file:
        file["a"] = h5py.SoftLink("/z/X")
        file["z"] = h5py.ExternalLink("pipe", "/")
    refuse(path, "'/z' is a link to '/' in the file 'pipe'")


def replace(file, name, values):
    attributes = dict(file[name].attrs)
    del file[name]
    file[name] = values
    file[name].attrs.update(attributes)


def with_entry(name, position, value):
    def change(file):
        file[name][position] = value

    return change


def shorter(name):
    return lambda file: replace(file, name, file[name][:-1])


def of_type(name, dtype):
    return lambda file: replace(file, name, file[name][:].astype(dtype))


def of_shape(name, shape):
    def change(file):
        file[name].attrs["shape"] = shape

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_entry("X/indices", 250, 10_000), r"'/X' is malformed: it has the index 10000; with \d+ columns, 0 to"),
        (with_entry("X/indices", -1, -1), r"'/X' is malformed: it has the index -1; with \d+ columns"),
        (with_entry("layers/csc/indices", 0, 10**6), r"'/layers/csc' is malformed: .* 1000000; with \d+ rows"),
        (with_entry("raw/X/indices", 0, 10**6), "'/raw/X' is malformed"),
        (with_entry("X/indptr", 5, 0), r"indptr falls at 5; it must never fall"),
        (with_entry("X/indptr", 0, 1), r"indptr goes from 1 to (\d+); it must go from 0 to \1"),
        (with_entry("X/indptr", -1, 10**8), r"indptr goes from 0 to 100000000; it must go from 0 to"),
        (shorter("X/indptr"), r"indptr has (\d+) entries for \1 rows"),
        (shorter("X/data"), r"it has \d+ indices for \d+ values"),
        (shorter("X/indices"), r"it has \d+ indices for \d+ values"),
        (of_type("X/indices", "f4"), "types int32 and float32, not integers"),
        (of_type("X/data", "S3"), r"values of 'X' have type \|S3; they must be numbers"),
        (of_type("X/data", "c8"), "values of 'X' have type complex64"),
        (of_type("layers/dense", "S3"), "values of 'layers/dense' have type"),
        (of_shape("X", [3]), r"its shape is \[3\]; it needs a number of rows"),
        (of_shape("X", [-1, 3]), r"its shape is \[-1, 3\]"),
        (lambda file: file.__delitem__("X/indptr"), "it has no array 'indptr' of one dimension"),
        (lambda file: replace(file, "X/data", np.ones((2, 2))), "it has no array 'data' of one dimension"),
    ],
)
def test_malformed_matrices(path, change, message):
    with h5py.File(path, "a") as file:
        change(file)
    refuse(path, message)


@pytest.mark.parametrize("more", [-5, 5])
@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, np.asarray])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_shape_that_is_not_that_of_the_tables(path, screen, more, form, axis):
    import anndata as ad

    shape = list(screen.shape)
    shape[axis] += more
    with h5py.File(path, "a") as file:
        del file["X"]
        ad.io.write_elem(file, "X", form(np.ones(shape, dtype=np.float32)))
    refuse(path, rf"'X' has shape \({shape[0]}, {shape[1]}\), but obs and var name {screen.n_obs} cells and")


def test_repeated_entries_and_unsorted_indices_are_legal(path):
    with h5py.File(path, "a") as file:
        start, end = file["X/indptr"][:2]
        file["X/indices"][start:end] = file["X/indices"][start]
    require_sound_h5ad(path)
