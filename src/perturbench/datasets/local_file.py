"""``LocalFileDataset``: base class of versioned datasets of one file, on any fsspec filesystem."""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from copy import deepcopy
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from kedro.io.core import AbstractVersionedDataset, Version, get_filepath_str, get_protocol_and_path

from perturbench.files import atomic_path


class LocalFileDataset(AbstractVersionedDataset[Any, Any]):
    """Base class of datasets whose library reads and writes local paths; remote files go through a temporary copy."""

    def __init__(
        self,
        *,
        filepath: str,
        load_args: dict[str, Any] | None = None,
        save_args: dict[str, Any] | None = None,
        version: Version | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        protocol, path = get_protocol_and_path(filepath, version)
        self._protocol = protocol
        self._fs = fsspec.filesystem(protocol, **deepcopy(credentials or {}), **deepcopy(fs_args or {}))
        self._load_args, self._save_args = dict(load_args or {}), dict(save_args or {})
        self.metadata = metadata
        super().__init__(
            filepath=PurePosixPath(path),
            version=version,
            exists_function=self._fs.exists,
            glob_function=self._fs.glob,
        )

    @abstractmethod
    def _read(self, path: str) -> Any:
        """Read a local file."""

    @abstractmethod
    def _write(self, data: Any, path: str) -> None:
        """Write a local file."""

    def load(self) -> Any:
        """Read the file."""
        path = get_filepath_str(self._get_load_path(), self._protocol)
        if self._protocol == "file":
            return self._read(path)
        with tempfile.TemporaryDirectory() as folder:
            local = str(Path(folder) / self._filepath.name)
            self._fs.get_file(path, local)
            return self._read(local)

    def save(self, data: Any) -> None:
        """Write the file; on a local disk a killed save leaves the old file."""
        path = get_filepath_str(self._get_save_path(), self._protocol)
        if self._protocol == "file":
            with atomic_path(path) as partial:
                self._write(data, str(partial))
        else:
            with tempfile.TemporaryDirectory() as folder:
                local = str(Path(folder) / self._filepath.name)
                self._write(data, local)
                self._fs.put_file(local, path)
        self._invalidate_cache()

    def _exists(self) -> bool:
        return bool(self._fs.exists(get_filepath_str(self._get_load_path(), self._protocol)))

    def _describe(self) -> dict[str, Any]:
        return {
            "filepath": self._filepath,
            "protocol": self._protocol,
            "load_args": self._load_args,
            "save_args": self._save_args,
            "version": self._version,
        }

    def _release(self) -> None:
        super()._release()
        self._invalidate_cache()

    def _invalidate_cache(self) -> None:
        self._fs.invalidate_cache(get_filepath_str(self._filepath, self._protocol))
