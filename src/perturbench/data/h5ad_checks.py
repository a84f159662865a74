"""Check that an h5ad file from outside the project is complete and well formed, before anything computes with it.

HDF5 files can point into other files: a prediction that links to the reference would score as perfect. scipy trusts the
index arrays of a sparse matrix: a wrong index reads foreign memory, which gives wrong values or ends the process.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from perturbench.data.sparse import row_slices
from perturbench.errors import PerturbenchError

#: About this many entries of an index array are read at once.
_BLOCK = 250_000
_SPARSE = {"csr_matrix": "csr", "csc_matrix": "csc", "csr": "csr", "csc": "csc"}
_COPY = "read it with anndata where the data are, and write it again with AnnData.write_h5ad."
_REWRITE = "make the matrix again and write it with AnnData.write_h5ad."


def require_regular_file(path: str | Path) -> None:
    """Raise unless a path is a regular file; opening a pipe would wait forever.

    Raises
    ------
    PerturbenchError
        If there is nothing at the path, or a folder, a pipe, a device or a socket.
    """
    path = Path(path)
    if not path.exists():
        raise PerturbenchError(f"file '{path}' does not exist.")
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        found = kinds.get(stat.S_IFMT(mode), "a device")
        raise PerturbenchError(f"'{path}' is {found}, not a regular file; give the path of an h5ad file.")


def require_sound_h5ad(path: str | Path) -> None:
    """Raise unless a file holds all of its data itself and its matrices are well formed.

    Values are not read. Index arrays are read in blocks, so that memory stays small.

    Parameters
    ----------
    path
        An h5ad file that this project did not write.

    Raises
    ------
    PerturbenchError
        If it is no regular file or no HDF5 file, points into other files, or has a malformed matrix.
    """
    require_regular_file(path)
    if not h5py.is_hdf5(path):
        raise PerturbenchError(
            f"'{path}' cannot be read as h5ad: it is not an HDF5 file; write it with AnnData.write_h5ad."
        )
    try:
        with h5py.File(path, "r") as file:
            for group in _groups(file):
                if _format(group):
                    _require_well_formed(group)
            _require_shapes(file)
    except PerturbenchError:
        raise
    except (OSError, RuntimeError, LookupError, TypeError, ValueError) as error:  # what h5py raises for damaged files
        raise PerturbenchError(
            f"'{path}' cannot be read as h5ad: {error}; the file is damaged, copy or write it again."
        ) from error


def _groups(file: h5py.File) -> list[h5py.Group]:
    """Return every group of a file; raise if anything in the file is stored elsewhere."""
    waiting: list[h5py.Group] = [file]
    groups: dict[int, h5py.Group] = {}
    soft_links = []
    while waiting:
        group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in groups:  # hard links can form circles
            continue
        groups[address] = group
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise _links_out(group, name, f"'{link.path}' in the file '{link.filename}'")
            if isinstance(link, h5py.SoftLink):
                soft_links.append((group, name, link))
            elif isinstance(item := group[name], h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset):
                _require_stored_here(item)
    # Soft links are followed only now: on the way they could pass an external link, and that would open its file.
    for group, name, link in soft_links:
        if group.get(name) is None:
            raise _links_out(group, name, f"'{link.path}', which is not in the file")
    return list(groups.values())


def _links_out(group: h5py.Group, name: str, target: str) -> PerturbenchError:
    where = f"{group.name.rstrip('/')}/{name}"
    return _error(group, f"'{where}' is a link to {target}; a file must hold all of its data itself: {_COPY}")


def _require_stored_here(dataset: h5py.Dataset) -> None:
    if dataset.is_virtual:
        found = "is a virtual dataset, whose data are in other files"
    elif dataset.external:
        found = f"is stored in the file '{dataset.external[0][0]}'"
    else:
        return
    raise _error(dataset, f"'{dataset.name}' {found}; a file must hold all of its data itself: {_COPY}")


def _require_shapes(file: h5py.File) -> None:
    """Raise unless ``X``, all layers and ``raw`` hold numbers, with a row per cell and a column per gene."""
    layers = file.get("layers", {})
    matrices = {"X": "var", "raw/X": "raw/var"} | {f"layers/{name}": "var" for name in layers}
    for name, genes in matrices.items():
        matrix = file.get(name)
        if matrix is None or (isinstance(matrix, h5py.Dataset) and matrix.shape is None):
            continue
        values = _member(matrix, "data") if isinstance(matrix, h5py.Group) else matrix
        if values.dtype.kind not in "biuf":
            raise _error(file, f"the values of '{name}' have type {values.dtype}; they must be numbers: {_REWRITE}")
        shape = _shape(matrix) if isinstance(matrix, h5py.Group) else matrix.shape
        expected = (_length(file, "obs"), _length(file, genes))
        if shape != expected:
            raise _error(
                file,
                f"'{name}' has shape {shape}, but obs and {genes} name {expected[0]} cells and {expected[1]} genes; "
                f"the numbers must be equal: {_REWRITE}",
            )


def _length(file: h5py.File, name: str) -> int:
    """Return the number of rows of a table."""
    table = file.get(name)
    if isinstance(table, h5py.Dataset):  # anndata before 0.7 stored tables as arrays of records
        return len(table)
    index = table.get(table.attrs.get("_index", "_index")) if isinstance(table, h5py.Group) else None
    if isinstance(index, h5py.Group):  # texts that may be missing, or categories
        index = index.get("values", index.get("codes"))
    if index is None:
        raise _error(file, f"cannot be read as h5ad: it has no table {name} with an index; {_REWRITE}")
    return len(index)


def _require_well_formed(matrix: h5py.Group) -> None:
    """Raise unless the arrays of a CSR or CSC matrix fit each other and its shape."""
    indptr, indices, data = (_member(matrix, name) for name in ("indptr", "indices", "data"))
    shape, by_rows = _shape(matrix), _format(matrix) == "csr"
    n_major, n_minor = shape if by_rows else shape[::-1]
    major, minor = ("rows", "columns") if by_rows else ("columns", "rows")
    if indptr.dtype.kind not in "iu" or indices.dtype.kind not in "iu":
        raise _malformed(matrix, f"indptr and indices have types {indptr.dtype} and {indices.dtype}, not integers")
    if len(indices) != len(data):
        raise _malformed(matrix, f"it has {len(indices)} indices for {len(data)} values; the numbers must be equal")
    if len(indptr) != n_major + 1:
        raise _malformed(
            matrix, f"indptr has {len(indptr)} entries for {n_major} {major}; it needs one more than {major}"
        )
    starts = indptr[:]
    if starts[0] != 0 or starts[-1] != len(indices):
        raise _malformed(
            matrix, f"indptr goes from {starts[0]} to {starts[-1]}; it must go from 0 to {len(indices)}, its entries"
        )
    if (starts[1:] < starts[:-1]).any():
        raise _malformed(matrix, f"indptr falls at {int((starts[1:] < starts[:-1]).argmax()) + 1}; it must never fall")
    chunk = indices.chunks[0] if indices.chunks else 1
    for rows in row_slices(len(indices), chunk * max(1, _BLOCK // chunk)):  # whole chunks, to unpack each only once
        low, high = _range(indices[rows])
        if low < 0 or high >= n_minor:
            found = low if low < 0 else high
            raise _malformed(matrix, f"it has the index {found}; with {n_minor} {minor}, 0 to {n_minor - 1} are valid")


def _format(group: h5py.Group) -> str | None:
    """Return ``csr`` or ``csc``; ``None`` for a group that is no sparse matrix."""
    return _SPARSE.get(str(group.attrs.get("encoding-type", group.attrs.get("h5sparse_format"))))


def _shape(matrix: h5py.Group) -> tuple[int, int]:
    shape = np.ravel(matrix.attrs.get("shape", matrix.attrs.get("h5sparse_shape", ())))
    if len(shape) != 2 or shape.dtype.kind not in "iu" or (shape < 0).any():
        raise _malformed(matrix, f"its shape is {shape.tolist()}; it needs a number of rows and a number of columns")
    return int(shape[0]), int(shape[1])


def _member(matrix: h5py.Group, name: str) -> h5py.Dataset:
    array = matrix.get(name)
    if not isinstance(array, h5py.Dataset) or array.ndim != 1:
        raise _malformed(matrix, f"it has no array '{name}' of one dimension")
    return array


def _range(values: np.ndarray) -> tuple[int, int]:
    return int(values.min()), int(values.max())


def _malformed(matrix: h5py.Group, problem: str) -> PerturbenchError:
    return _error(matrix, f"the sparse matrix '{matrix.name}' is malformed: {problem}; {_REWRITE}")


def _error(item: Any, problem: str) -> PerturbenchError:
    return PerturbenchError(f"'{item.file.filename}': {problem}")
