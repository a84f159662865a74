"""Published files: downloaded, verified and unpacked once, with a record of the source next to each file."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock
from rich.filesize import decimal

from perturbench.data.sources.archives import unpack, unpacked_name
from perturbench.data.sources.download import DownloadError, RetryPolicy, download, partial_size, remove_version
from perturbench.data.sources.records import Record, digests, read_record, require_match, write_record
from perturbench.errors import PerturbenchError
from perturbench.files import size_of

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
        Name of the file on disk. ``.gz`` and ``.tar`` archives are unpacked next to it.
    url
        Address of the file.
    bytes
        Size of the file, if known.
    checksum
        Expected checksum, ``md5:<hex>`` or ``sha256:<hex>``, if known.
    """

    name: str
    url: str
    bytes: int | None = None
    checksum: str | None = None

    @property
    def unpacked(self) -> str:
        """Name of the file or folder after unpacking."""
        return unpacked_name(self.name)


@dataclass(frozen=True)
class FileStatus:
    """Whether a published file is on disk, completely or in part, the bytes on disk, and its record."""

    status: Literal["there", "partial", "missing"]
    bytes: int
    record: Record | None = None


def fetch_file(remote: RemoteFile, folder: Path, *, accept: bool = False, retry: RetryPolicy | None = None) -> Record:
    """Make sure that a published file is in a folder, verified and unpacked.

    A file that is in the folder already is not downloaded again, also if the user placed it there; an archive in the
    folder is unpacked. Only one process at a time works on a file, other processes wait.

    Parameters
    ----------
    remote
        The published file.
    folder
        Folder to download to.
    accept
        Whether to use a file with another checksum than the expected one, with a warning.
    retry
        Timeouts and number of attempts of the download.

    Raises
    ------
    PerturbenchError
        If the file cannot be downloaded, written or unpacked, or has another checksum than the expected one.
    """
    try:
        # Read before taking the lock, because no lock file can be created in a shared folder that is read-only.
        record = _current_record(remote, folder)
        if record is None:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f".{remote.name}.lock"):
                record = _current_record(remote, folder) or _fetch(remote, folder, accept, retry)
    except DownloadError as error:
        raise PerturbenchError(_with_instructions(error, remote, folder)) from error
    except OSError as error:
        raise PerturbenchError(
            f"'{folder}' cannot be written to: {error}. Set another folder with --params=data.source.cache:<folder>."
        ) from error
    require_match(record.pinned, record.found, folder / remote.unpacked, accept)
    return record


def fetch_all(
    files: Iterable[RemoteFile], folder: Path, read: str, conversion: str | None, *, accept: bool = False
) -> tuple[Path, list[Record]]:
    """Fetch the files of a data set; return the path of its h5ad file, and the records of all files.

    Parameters
    ----------
    files, folder, accept
        See :func:`fetch_file`.
    read
        Name of the h5ad file in the folder.
    conversion
        Instructions on how to convert the files into the h5ad file, if it is not one of them. Once the h5ad file
        exists, the other files are not fetched.

    Raises
    ------
    PerturbenchError
        As for :func:`fetch_file`, and if the user has to convert the files first.
    """
    path = folder / read
    if conversion and path.is_file():
        return path, []
    records = [fetch_file(file, folder, accept=accept) for file in files]
    if not path.is_file():
        raise PerturbenchError(
            f"'{path}' does not exist yet; it has to be converted from the files in '{folder}'. {conversion or ''}"
        )
    return path, records


def file_status(remote: RemoteFile, folder: Path) -> FileStatus:
    """Return whether a published file is on disk, without reading the file itself."""
    target, archive = folder / remote.unpacked, folder / remote.name
    for path in (target, archive):
        if path.exists():
            return FileStatus("there", size_of(path), _current_record(remote, folder))
    if downloaded := partial_size(_part(archive), remote.url):
        return FileStatus("partial", downloaded)
    return FileStatus("missing", 0)


def _current_record(remote: RemoteFile, folder: Path) -> Record | None:
    """Return the record of a file if it was verified against the checksum that is expected now."""
    record = read_record(folder / remote.unpacked)
    return record if record and record.pinned == remote.checksum else None


def _fetch(remote: RemoteFile, folder: Path, accept: bool, retry: RetryPolicy | None) -> Record:
    target, archive = folder / remote.unpacked, folder / remote.name
    if archive != target and archive.exists() and target.exists() and read_record(target) is None:
        # The user or another program unpacked the archive, perhaps not completely.
        raise PerturbenchError(
            f"'{target}' may be incomplete: it was not unpacked from '{archive.name}' by this program. Delete it to "
            f"unpack it again, or delete '{archive.name}' to use '{target.name}' unchanged."
        )
    if archive.exists() or target.exists():
        facts = _verify(remote, archive if archive.exists() else target, accept)
    else:
        part = _part(archive)
        download(remote.url, part, None if accept else remote.bytes, retry)
        facts = _verify(remote, part, accept)
        part.replace(archive)
        remove_version(part)
    if not target.exists():
        logger.info("unpacking %s", archive)
        unpack(archive, target)
    stat = target.stat()
    record = Record(remote.url, **facts, size=stat.st_size, modified=stat.st_mtime_ns)
    write_record(target, record)
    return record


def _verify(remote: RemoteFile, path: Path, accept: bool) -> dict[str, Any]:
    """Compare a file with the expected checksum; return size and checksums as the fields of its record."""
    facts: dict[str, Any] = {"bytes": size_of(path), "sha256": None, "pinned": remote.checksum, "found": None}
    if path.is_dir():
        return facts
    algorithm = (remote.checksum or "sha256").partition(":")[0]
    hexes = digests(path, {algorithm, "sha256"})
    # The expected checksum is that of the published file; an unpacked file without its archive cannot be compared.
    if remote.checksum and (path.name != remote.unpacked or remote.unpacked == remote.name):
        facts["found"] = f"{algorithm}:{hexes[algorithm]}"
        require_match(remote.checksum, facts["found"], path, accept)
    return facts | {"sha256": hexes["sha256"]}


def _with_instructions(error: Exception, remote: RemoteFile, folder: Path) -> str:
    """Return the message of a failed download, with instructions on how to resume it or do without the server."""
    size = f" ({decimal(remote.bytes)})" if remote.bytes else ""
    downloaded = partial_size(_part(folder / remote.name), remote.url)
    resume = f" {decimal(downloaded)} were downloaded and kept; run the same command to resume." if downloaded else ""
    return (
        f"{error}{resume} To do without this server, download the file elsewhere{size}, place it at "
        f"'{folder / remote.name}' and run again, or name a file that you have with --params=data.source.path:<file>."
    )


def _part(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.part")
