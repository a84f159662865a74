"""``AnnDataDataset``: h5ad files in the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from kedro.io.core import DatasetError, get_filepath_str
from kedro_datasets._typing import TablePreview

from perturbench.datasets.local_file import LocalFileDataset

if TYPE_CHECKING:
    import anndata as ad

#: A dense matrix is compressed if a sample of its rows has at least this share of zeros.
_MOSTLY_ZERO = 0.5
_SAMPLED_ROWS = 100


class AnnDataDataset(LocalFileDataset):
    """Load and save an ``AnnData`` object as h5ad on any fsspec filesystem.

    ``load_args`` go to ``anndata.read_h5ad`` (``backed: r`` leaves the matrix on disk, local files only), ``save_args``
    to ``AnnData.write_h5ad``. Files are compressed with gzip, but not dense matrices of nonzero values, such as the
    predictions of a neural network: compression would take 30 times as long as the write and save 10% of the space.
    With ``from_outside``, a file is checked before it is read, because anybody may have put it there; see
    :func:`perturbench.data.h5ad_checks.require_sound_h5ad`.

    Examples
    --------
    >>> AnnDataDataset(filepath="data/03_primary/demo/prepared.h5ad", load_args={"backed": "r"}).exists()
    False
    """

    def __init__(self, *, from_outside: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._from_outside = from_outside
        self._keeps = False
        self._kept: ad.AnnData | None = None
        if self.backed and self._protocol != "file":
            raise DatasetError(f"backed mode needs a local file, got protocol '{self._protocol}'")

    @property
    def backed(self) -> bool:
        """Whether loading leaves the matrix on disk."""
        return bool(self._load_args.get("backed"))

    def keep_loaded(self, keep: bool) -> None:
        """Keep what is loaded and return the same object again, until a save or until ``keep_loaded(False)``.

        For a run whose nodes read the same cells one after another; none of them may change the cells.
        """
        self._keeps, self._kept = keep, None

    def load(self) -> ad.AnnData:
        """Read the file, unless its content is kept."""
        if self._kept is not None:
            return self._kept
        loaded = super().load()
        self._kept = loaded if self._keeps else None
        return loaded

    def save(self, data: ad.AnnData) -> None:
        """Write the file."""
        self._kept = None
        super().save(data)

    def _read(self, path: str) -> ad.AnnData:
        import anndata as ad

        if self._from_outside:
            from perturbench.data.h5ad_checks import require_sound_h5ad

            require_sound_h5ad(path)
        return ad.read_h5ad(path, **self._load_args)

    def _write(self, data: ad.AnnData, path: str) -> None:
        data.write_h5ad(path, **{"compression": _compression(data.X), **self._save_args})

    def preview(self, nrows: int = 5) -> TablePreview:
        """Return the first rows of ``obs`` without reading the matrix."""
        import h5py
        from anndata.io import read_elem

        path = get_filepath_str(self._get_load_path(), self._protocol)
        with self._fs.open(path, "rb") as stream, h5py.File(stream, "r") as h5:
            obs = read_elem(h5["obs"]).head(nrows)
        return TablePreview(obs.astype(str).reset_index().to_dict(orient="split"))


def _compression(x: Any) -> str | None:
    if not isinstance(x, np.ndarray):
        return "gzip"
    sample = x[:: max(1, len(x) // _SAMPLED_ROWS)]
    return "gzip" if np.count_nonzero(sample) <= (1 - _MOSTLY_ZERO) * sample.size else None
