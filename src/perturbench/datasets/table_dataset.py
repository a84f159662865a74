"""``TableDataset``: tables that a user writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kedro_datasets._typing import TablePreview

from perturbench.data.queries import read_table
from perturbench.datasets.local_file import LocalFileDataset

if TYPE_CHECKING:
    import pandas as pd


class TableDataset(LocalFileDataset):
    """Load and save a table as csv, read as text, or as parquet: whichever the file's name ends with."""

    def _read(self, path: str) -> pd.DataFrame:
        return read_table(path)

    def _write(self, data: pd.DataFrame, path: str) -> None:
        if self._filepath.suffix == ".parquet":
            data.to_parquet(path, **self._save_args)
        else:
            data.to_csv(path, **{"index": False, **self._save_args})

    def preview(self, nrows: int = 5) -> TablePreview:
        """Return the first rows."""
        return TablePreview(self.load().head(nrows).to_dict(orient="split"))
