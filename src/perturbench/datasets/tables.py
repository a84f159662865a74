"""Tables in the catalog: csv, parquet, and tables that a user writes.

Kedro's own table datasets are in a package that also imports SQLAlchemy and every other table format, which adds a
quarter of a second to each command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kedro_datasets._typing import TablePreview

from perturbench.datasets.local_file import LocalFileDataset

if TYPE_CHECKING:
    import pandas as pd


class _FrameDataset(LocalFileDataset):
    """A table with a preview for kedro-viz."""

    def preview(self, nrows: int = 5) -> TablePreview:
        """Return the first rows."""
        return TablePreview(self.load().head(nrows).to_dict(orient="split"))


class CSVDataset(_FrameDataset):
    """Load and save a table as csv, without its index.

    ``load_args`` go to ``pandas.read_csv``, ``save_args`` to ``DataFrame.to_csv``.
    """

    def _read(self, path: str) -> pd.DataFrame:
        import pandas as pd

        return pd.read_csv(path, **self._load_args)

    def _write(self, data: pd.DataFrame, path: str) -> None:
        data.to_csv(path, **{"index": False, **self._save_args})


class ParquetDataset(_FrameDataset):
    """Load and save a table as parquet, with its ``attrs``.

    ``load_args`` go to ``pandas.read_parquet``, ``save_args`` to ``DataFrame.to_parquet``.
    """

    def _read(self, path: str) -> pd.DataFrame:
        import pandas as pd

        return pd.read_parquet(path, **self._load_args)

    def _write(self, data: pd.DataFrame, path: str) -> None:
        data.to_parquet(path, **self._save_args)


class TableDataset(_FrameDataset):
    """Load and save a table that the user writes: parquet or csv by its suffix; csv columns are read as text."""

    def _read(self, path: str) -> pd.DataFrame:
        from perturbench.data.queries import read_table

        return read_table(path)

    def _write(self, data: pd.DataFrame, path: str) -> None:
        if self._filepath.suffix == ".parquet":
            data.to_parquet(path, **self._save_args)
        else:
            data.to_csv(path, **{"index": False, **self._save_args})
