"""Read h5ad files: first the annotation, then the counts of only those cells and genes that the steps keep.

anndata reads the elements (``read_elem``, ``sparse_dataset``). The loop over blocks of rows and the joining of files
are ours: ``anndata.experimental.read_lazy`` needs dask and xarray, and ``backed="r"`` loads all layers into memory.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata.io import read_elem, sparse_dataset
from anndata.utils import make_index_unique

from perturbench.data.curation.steps import Annotation
from perturbench.data.h5ad_checks import require_sound_h5ad
from perturbench.data.sparse import row_slices, stack_rows, sum_repeated
from perturbench.errors import PerturbenchError, listing

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Column of ``obs`` with the name of each cell's file during curation.
FILE = "source_file"
_POSITION = "_position"
_ROWS = 2048


class Source(ExitStack):
    """Open one h5ad file, or all h5ad files of a folder, without reading the counts; a context manager.

    Cells of several files are ordered by the names of the files and have only the genes that all files share. A cell
    name that occurs in several files gets a number, as in ``AnnData.obs_names_make_unique``.

    Parameters
    ----------
    path
        File or folder.

    Raises
    ------
    PerturbenchError
        If a file does not exist or is not a sound h5ad file, or the folder has no h5ad file.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        paths = sorted(self.path.glob("*.h5ad")) if self.path.is_dir() else [self.path]
        if not paths:
            raise PerturbenchError(f"folder '{path}' has no h5ad file.")
        with ExitStack() as opened:  # a file that cannot be opened closes those before it
            self.files = {file.stem: opened.enter_context(_open(file)) for file in paths}
            self.push(opened.pop_all())

    @property
    def columns(self) -> set[str]:
        """The columns of ``obs`` that all files have."""
        return set.intersection(*({*file["obs"].attrs.get("column-order", ())} for file in self.files.values()))

    def has_layer(self, layer: str | None) -> bool:
        """Return whether all files have a layer; ``None`` means ``X``, ``raw`` may also be the matrix of ``.raw``."""
        return all(_matrix(file, layer) is not None for file in self.files.values())

    def require_layer(self, layer: str | None) -> None:
        """Raise unless all files have a layer.

        Raises
        ------
        PerturbenchError
            If a file does not have the layer; the message lists the layers that it has.
        """
        for name, file in self.files.items():
            if _matrix(file, layer) is not None:
                continue
            if layer is None:
                raise PerturbenchError(
                    f"'{name}.h5ad' has no X; raw counts must be there, or in a layer named by counts_layer."
                )
            raise PerturbenchError(
                f"layer '{layer}' is not in '{name}.h5ad'; layers are: {listing(file.get('layers', ()))}."
            )

    def annotation(self, layer: str | None) -> Annotation:
        """Return the annotation of all cells, and of the genes of a layer."""
        obs = [self._read(name, file["obs"]).assign(**{FILE: name}) for name, file in self.files.items()]
        merged = pd.concat(obs, join="inner") if len(obs) > 1 else obs[0]
        if len(obs) > 1:
            merged.index = make_index_unique(merged.index.astype(str))
        var = self._genes(layer)
        return Annotation(
            merged.assign(**{_POSITION: np.arange(len(merged))}), var.assign(**{_POSITION: np.arange(len(var))})
        )

    def cells(self, annotation: Annotation, layer: str | None) -> ad.AnnData:
        """Read the counts, CSR float32, of the cells and genes in an annotation, which steps may have reduced."""
        rows, columns = (np.asarray(frame[_POSITION]) for frame in (annotation.obs, annotation.var))
        x = stack_rows(self._blocks(layer, rows, columns), len(columns))
        obs = annotation.obs.drop(columns=[_POSITION, FILE], errors="ignore")
        adata = ad.AnnData(x, obs=obs, var=annotation.var.drop(columns=_POSITION))
        if len(self.files) == 1:
            adata.obsm.update(self._aligned("obsm", rows))
            adata.varm.update({} if layer == "raw" else self._aligned("varm", columns))
        return adata

    def _aligned(self, key: str, rows: np.ndarray) -> dict[str, Any]:
        """Return rows of the arrays and tables in ``obsm`` or ``varm`` of the only file."""
        (name, file), *_ = self.files.items()
        arrays = self._read(name, file[key]) if key in file else {}
        return {
            key: value.iloc[rows] if isinstance(value, pd.DataFrame) else value[rows] for key, value in arrays.items()
        }

    def _genes(self, layer: str | None) -> pd.DataFrame:
        tables = [self._table(name, layer) for name in self.files]
        shared = tables[0].index
        for table in tables[1:]:
            shared = shared[shared.isin(table.index)]
        if len(tables) > 1 and (repeated := list(shared[shared.duplicated()])):
            raise PerturbenchError(f"files of '{self.path}' cannot be joined: gene names repeat: {listing(repeated)}.")
        return tables[0] if len(tables) == 1 else tables[0].loc[shared]

    def _blocks(self, layer: str | None, rows: np.ndarray, columns: np.ndarray) -> Iterator[sp.csr_matrix]:
        genes = self._genes(layer).index[columns]
        first = 0
        for name, file in self.files.items():
            reader = _reader(_matrix(file, layer))
            n_cells, n_genes = reader.shape
            file_columns = columns if len(self.files) == 1 else self._table(name, layer).index.get_indexer(genes)
            all_genes = np.array_equal(file_columns, np.arange(n_genes))
            file_rows = rows[(rows >= first) & (rows < first + n_cells)] - first
            for here in row_slices(n_cells, _ROWS):
                block_rows = file_rows[(file_rows >= here.start) & (file_rows < here.stop)] - here.start
                if len(block_rows):
                    block = sp.csr_matrix(reader[here], dtype=np.float32)[block_rows]
                    yield sum_repeated(block if all_genes else block[:, file_columns])
            first += n_cells

    def _table(self, name: str, layer: str | None) -> pd.DataFrame:
        file = self.files[name]
        return self._read(name, file["raw/var"] if _is_raw(file, layer) else file["var"])

    def _read(self, name: str, element: Any) -> Any:
        try:
            return read_elem(element)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise PerturbenchError(f"'{name}.h5ad' cannot be read as h5ad: {error}.") from error


def _open(path: Path) -> h5py.File:
    require_sound_h5ad(path)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise PerturbenchError(f"'{path}' cannot be read as h5ad: {error}.") from error
    if not all(isinstance(file.get(name), h5py.Group) for name in ("obs", "var")):
        file.close()
        raise PerturbenchError(f"'{path}' cannot be read as h5ad: it has no tables obs and var.")
    return file


def _reader(matrix: Any) -> Any:
    """Return a matrix that can be sliced by rows; one that is stored by columns is read into memory whole."""
    if not isinstance(matrix, h5py.Group):
        return matrix
    stored = sparse_dataset(matrix)
    return stored if stored.format == "csr" else stored.to_memory().tocsr()


def _is_raw(file: h5py.File, layer: str | None) -> bool:
    return layer == "raw" and "layers/raw" not in file


def _matrix(file: h5py.File, layer: str | None) -> h5py.Group | h5py.Dataset | None:
    """Return the matrix of a layer (``None`` means ``X``), or ``None`` if it is missing or empty."""
    matrix = file.get("X" if layer is None else "raw/X" if _is_raw(file, layer) else f"layers/{layer}")
    return None if isinstance(matrix, h5py.Dataset) and matrix.shape is None else matrix
