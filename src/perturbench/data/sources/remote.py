"""Files that others published: downloaded, verified and unpacked once, with a record of what came beside each."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock
from rich.filesize import decimal

from perturbench.data.sources.archives import unpack, unpacked_name
from perturbench.data.sources.download import DownloadError, Patience, download, forget, partial_size
from perturbench.errors import PerturbenchError
from perturbench.files import atomic_path, size_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemoteFile:
    """A published file.

    Parameters
    ----------
    name
        Its name on disk. ``.gz`` and ``.tar`` are unpacked beside it.
    url
        Where it is.
    bytes
        Its size, where known.
    checksum
        ``md5:<hex>`` or ``sha256:<hex>``, where known.
    """

    name: str
    url: str
    bytes: int | None = None
    checksum: str | None = None

    @property
    def unpacked(self) -> str:
        """What it is called once unpacked."""
        return unpacked_name(self.name)


@dataclass(frozen=True)
class Record:
    """What is known of a file that is there.

    Parameters
    ----------
    url
        Where it is published.
    bytes, sha256
        Of the file as published, before unpacking; of the unpacked file if only that is there. No ``sha256`` of a
        folder.
    pinned, found
        The pinned checksum, and the one that the file has instead of it or as it; ``None`` where none is pinned, or the
        file it is pinned for is not there.
    size, modified
        Of the unpacked file, in bytes and ns: with others the file is not the one that was recorded.
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
        """Whether the file has the pinned checksum; ``None`` if that is not known."""
        return None if self.found is None else self.found == self.pinned


@dataclass(frozen=True)
class FileState:
    """Whether a published file is on disk: all, a part or nothing of it, and what is known of it."""

    state: Literal["there", "partial", "missing"]
    bytes: int
    record: Record | None = None


def fetch_file(remote: RemoteFile, folder: Path, *, accept: bool = False, patience: Patience | None = None) -> Record:
    """Make sure that a published file is in a folder, verified and unpacked.

    A file that is there is not downloaded again, whoever put it there; an archive beside is unpacked. One process at a
    time works on a file, others wait for it.

    Parameters
    ----------
    remote
        The file.
    folder
        Where it is or will be.
    accept
        Whether to use it, with a warning, when it has another checksum than the pinned one.
    patience
        Of the download.

    Raises
    ------
    PerturbenchError
        If it cannot be downloaded, written or unpacked, or has another checksum; it is then not there.
    """
    try:
        # Before the lock, which a shared folder that is read-only would not let be made.
        record = read_record(remote, folder)
        if record is None:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f".{remote.name}.lock"):
                record = read_record(remote, folder) or _bring(remote, folder, accept, patience)
    except DownloadError as error:
        raise PerturbenchError(_by_hand(remote, folder, error)) from error
    except OSError as error:
        raise PerturbenchError(
            f"'{folder}' cannot be written to: {error}. Name another folder with --params=data.source.cache:<folder>."
        ) from error
    _require_match(record.pinned, record.found, folder / remote.unpacked, accept)
    return record


def fetch_all(
    files: Iterable[RemoteFile], folder: Path, read: str, conversion: str | None, *, accept: bool = False
) -> tuple[Path, list[Record]]:
    """Fetch the files of a data set; return the path of the h5ad among them and their records.

    Parameters
    ----------
    files, folder, accept
        See :func:`fetch_file`.
    read
        Name of the h5ad in the folder.
    conversion
        What a user has to do to make it from the files, where it is none of them. The files are then not asked for
        once it is there.

    Raises
    ------
    PerturbenchError
        As :func:`fetch_file`; and if the h5ad has yet to be made.
    """
    path = folder / read
    if conversion and path.is_file():
        return path, []
    records = [fetch_file(file, folder, accept=accept) for file in files]
    if not path.is_file():
        raise PerturbenchError(f"'{path}' is not there yet; what it is made from is in '{folder}'. {conversion or ''}")
    return path, records


def state_of(remote: RemoteFile, folder: Path) -> FileState:
    """Return what is on disk of a published file, without reading it."""
    target, archive = folder / remote.unpacked, folder / remote.name
    for path in (target, archive):
        if path.exists():
            return FileState("there", size_of(path), read_record(remote, folder))
    if left := partial_size(_part(archive), remote.url):
        return FileState("partial", left)
    return FileState("missing", 0)


def read_record(remote: RemoteFile, folder: Path) -> Record | None:
    """Return the record of a file; ``None`` if there is none of this very file and pinned checksum."""
    record = _record_of(folder / remote.unpacked)
    return record if record and record.pinned == remote.checksum else None


def _record_of(target: Path) -> Record | None:
    try:
        record = Record(**json.loads(_record_path(target).read_text()))
        stat = target.stat()
    except (OSError, ValueError, TypeError):
        return None
    return record if (record.size, record.modified) == (stat.st_size, stat.st_mtime_ns) else None


def _bring(remote: RemoteFile, folder: Path, accept: bool, patience: Patience | None) -> Record:
    target, archive = folder / remote.unpacked, folder / remote.name
    if archive != target and archive.exists() and target.exists() and _record_of(target) is None:
        raise PerturbenchError(
            f"'{target}' is not known to be all that '{archive.name}' holds. Delete it to have it unpacked again, or "
            f"delete '{archive.name}' to use it as it is."
        )
    if archive.exists() or target.exists():
        facts = _check(remote, archive if archive.exists() else target, accept)
    else:
        part = _part(archive)
        download(remote.url, part, None if accept else remote.bytes, patience)
        facts = _check(remote, part, accept)
        part.replace(archive)
        forget(part)
    if not target.exists():
        logger.info("unpacking %s", archive)
        unpack(archive, target)
    stat = target.stat()
    record = Record(remote.url, **facts, size=stat.st_size, modified=stat.st_mtime_ns)
    with atomic_path(_record_path(target)) as partial:
        partial.write_text(json.dumps(asdict(record), indent=2))
    return record


def _check(remote: RemoteFile, path: Path, accept: bool) -> dict[str, Any]:
    """Return what a record says of a file's bytes; refuse a file with another checksum than the pinned one."""
    facts: dict[str, Any] = {"bytes": size_of(path), "sha256": None, "pinned": remote.checksum, "found": None}
    if path.is_dir():
        return facts
    algorithm = (remote.checksum or "sha256").partition(":")[0]
    digests = _digests(path, {algorithm, "sha256"})
    if remote.checksum and (path.name != remote.unpacked or remote.unpacked == remote.name):
        facts["found"] = f"{algorithm}:{digests[algorithm]}"
        _require_match(remote.checksum, facts["found"], path, accept)
    return facts | {"sha256": digests["sha256"]}


def _require_match(pinned: str | None, found: str | None, path: Path, accept: bool) -> None:
    if found == pinned or found is None:
        return
    message = f"'{path}' is not the file that was pinned: its checksum is {found}, expected {pinned}"
    if not accept:
        raise PerturbenchError(
            f"{message}. Delete it to have it downloaded again. Publishers do replace files: to use this one as it is, "
            "add --params=data.source.mismatch:accept."
        )
    logger.warning("%s; it is used because data.source.mismatch is 'accept'", message)


def _by_hand(remote: RemoteFile, folder: Path, error: Exception) -> str:
    size = f" ({decimal(remote.bytes)})" if remote.bytes else ""
    left = partial_size(_part(folder / remote.name), remote.url)
    kept = f" {decimal(left)} came and are kept; the same command goes on from there." if left else ""
    return (
        f"{error}{kept} Without this server: download the file elsewhere{size}, place it at "
        f"'{folder / remote.name}' and run again, or name a file that you have with --params=data.source.path:<file>."
    )


def _digests(path: Path, algorithms: Iterable[str]) -> dict[str, str]:
    """Return checksums in hex by algorithm, reading the file once."""
    digests = {algorithm: hashlib.new(algorithm, usedforsecurity=False) for algorithm in algorithms}
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            for digest in digests.values():
                digest.update(chunk)
    return {algorithm: digest.hexdigest() for algorithm, digest in digests.items()}


def _part(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.part")


def _record_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.source.json")
