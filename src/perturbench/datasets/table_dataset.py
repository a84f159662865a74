"""``TableDataset``: tables that a user writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perturbench.data.wanted import read_table
from perturbench.datasets.local_file import LocalFileDataset

if TYPE_CHECKING:
    import pandas as pd


class TableDataset(LocalFileDataset):
    """Load and save a table as csv, read as text, or as parquet: whichever the file's name ends with."""

    def _read(self, path: str) -> pd.DataFrame:
        return read_table(path)

    def _write(self, data: pd.DataFrame, path: str) -> None:
        if Path(str(self._filepath)).suffix == ".parquet":
            data.to_parquet(path, **self._save_args)
        else:
            data.to_csv(path, **{"index": False, **self._save_args})
