"""Kedro's datasets with saves that a kill cannot tear: write aside, then rename."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from kedro_datasets.json import JSONDataset as _JSONDataset
from kedro_datasets.pandas import CSVDataset as _CSVDataset
from kedro_datasets.pandas import ParquetDataset as _ParquetDataset
from kedro_datasets.plotly import JSONDataset as _PlotlyDataset
from kedro_datasets.text import TextDataset as _TextDataset
from kedro_datasets.yaml import YAMLDataset as _YAMLDataset

from perturbench.files import atomic_path


class AtomicSave:
    """Mixin for a dataset that saves to ``_get_save_path()``: local files are written aside, then renamed."""

    _aside: PurePosixPath | None = None

    def save(self, data: Any) -> None:
        """Save, whole or not at all."""
        if self._protocol != "file":  # type: ignore[attr-defined]
            super().save(data)  # type: ignore[misc]
            return
        target = Path(super()._get_save_path())  # type: ignore[misc]
        try:
            with atomic_path(target) as partial:
                self._aside = PurePosixPath(partial)
                super().save(data)  # type: ignore[misc]
        finally:
            self._aside = None

    def _get_save_path(self) -> PurePosixPath:
        return self._aside or super()._get_save_path()  # type: ignore[misc]


class CSVDataset(AtomicSave, _CSVDataset):
    """Tables as csv."""


class JSONDataset(AtomicSave, _JSONDataset):
    """JSON documents."""


class ParquetDataset(AtomicSave, _ParquetDataset):
    """Tables as parquet."""


class PlotlyDataset(AtomicSave, _PlotlyDataset):
    """Plotly figures as JSON."""


class TextDataset(AtomicSave, _TextDataset):
    """Text, also html."""


class YAMLDataset(AtomicSave, _YAMLDataset):
    """YAML documents."""
