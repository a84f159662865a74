"""Kedro's text datasets with atomic saves: a killed run leaves either the old file or the new one."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from kedro_datasets.json import JSONDataset as _JSONDataset
from kedro_datasets.text import TextDataset as _TextDataset
from kedro_datasets.yaml import YAMLDataset as _YAMLDataset

from perturbench.files import atomic_path


class AtomicSave:
    """Mixin for a dataset that saves to ``_get_save_path()``: a local file is written under another name, then renamed.

    Files on other filesystems are saved by Kedro's own method.
    """

    _temporary_path: PurePosixPath | None = None

    def save(self, data: Any) -> None:
        """Save the file atomically: a killed save leaves the old file."""
        if self._protocol != "file":  # type: ignore[attr-defined]
            super().save(data)  # type: ignore[misc]
            return
        target = Path(super()._get_save_path())  # type: ignore[misc]
        try:
            with atomic_path(target) as partial:
                self._temporary_path = PurePosixPath(partial)
                super().save(data)  # type: ignore[misc]
        finally:
            self._temporary_path = None

    def _get_save_path(self) -> PurePosixPath:
        return self._temporary_path or super()._get_save_path()  # type: ignore[misc]


class JSONDataset(AtomicSave, _JSONDataset):
    """Load and save a JSON document."""


class TextDataset(AtomicSave, _TextDataset):
    """Load and save text, for example an html page."""


class YAMLDataset(AtomicSave, _YAMLDataset):
    """Load and save a YAML document."""
