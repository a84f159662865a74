"""Checksums of downloaded files, and the record that is saved next to each file."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from perturbench.errors import PerturbenchError
from perturbench.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """Source and checksums of a file on disk.

    Parameters
    ----------
    url
        Address of the published file.
    bytes, sha256
        Size and checksum of the file as published, before unpacking; those of the unpacked file if the archive was
        never on disk. ``sha256`` is ``None`` for a folder.
    pinned, found
        Checksum that the configuration expects, and checksum of the file by the same algorithm. ``pinned`` is ``None``
        if no checksum is expected, ``found`` is ``None`` if there was nothing to compare: no expected checksum, or an
        unpacked file without its archive.
    size, modified
        Size in bytes and time of modification in ns of the unpacked file. A file that differs in either was changed
        after the record was written, which makes the record void.
    """

    url: str
    bytes: int
    sha256: str | None
    pinned: str | None
    found: str | None
    size: int
    modified: int

    @property
    def matches(self) -> bool | None:
        """Whether the file has the expected checksum; ``None`` if there was nothing to compare."""
        return None if self.found is None else self.found == self.pinned


def read_record(target: Path) -> Record | None:
    """Return the record of a file; ``None`` if there is none, or the file was changed after it was written."""
    try:
        record = Record(**json.loads(_record_path(target).read_text()))
        stat = target.stat()
    except (OSError, ValueError, TypeError):
        return None
    return record if (record.size, record.modified) == (stat.st_size, stat.st_mtime_ns) else None


def write_record(target: Path, record: Record) -> None:
    """Save the record next to the file."""
    with atomic_path(_record_path(target)) as partial:
        partial.write_text(json.dumps(asdict(record), indent=2))


def require_match(pinned: str | None, found: str | None, path: Path, accept: bool) -> None:
    """Raise if a file does not have the expected checksum; with ``accept``, only warn.

    Raises
    ------
    PerturbenchError
        If the checksums differ and ``accept`` is false.
    """
    if found == pinned or found is None:
        return
    message = f"'{path}' does not have the expected checksum: it has {found}, expected {pinned}"
    if not accept:
        raise PerturbenchError(
            f"{message}. Delete it to download it again. If the publisher replaced the file on purpose, use it with "
            "--params=data.source.mismatch:accept."
        )
    logger.warning("%s; it is used because data.source.mismatch is 'accept'", message)


def digests(path: Path, algorithms: Iterable[str]) -> dict[str, str]:
    """Return the checksum of a file in hex for each algorithm, reading the file once."""
    hashes = {algorithm: hashlib.new(algorithm, usedforsecurity=False) for algorithm in algorithms}
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            for digest in hashes.values():
                digest.update(chunk)
    return {algorithm: digest.hexdigest() for algorithm, digest in hashes.items()}


def _record_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.source.json")
