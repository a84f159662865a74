"""Download of one large file, which is retried and resumed.

Libraries such as pooch start over after a broken connection, and delete a file whose checksum differs. Both cost too
much with files of 15 GB.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import requests
import urllib3
from rich.filesize import decimal
from tqdm import tqdm

from perturbench import __version__
from perturbench.errors import PerturbenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)
#: Bytes that are read and written at a time.
_CHUNK = 1 << 20
#: Status codes of servers that are busy for the moment: another attempt may succeed.
_RETRIED_STATUS = (408, 425, 429, 500, 502, 503, 504)
# "identity" asks for the uncompressed file, because sizes and checksums are those of the file itself.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"perturbench/{__version__}"}


@dataclass(frozen=True)
class RetryPolicy:
    """Timeouts and number of attempts of a download.

    Parameters
    ----------
    connect, read
        Longest wait for a connection, and for the next bytes, in seconds.
    attempts
        Number of attempts without a new byte after which the download fails.
    pause
        Wait before the second attempt, in seconds; it doubles with each further attempt.
    """

    connect: float = 10.0
    read: float = 60.0
    attempts: int = 4
    pause: float = 1.0


class DownloadError(PerturbenchError):
    """A file could not be downloaded; the message says what the server answered, or that it did not answer."""


class _Interrupted(Exception):
    """A download was interrupted and may be resumed."""


def download(url: str, part: Path, size: int | None = None, retry: RetryPolicy | None = None) -> None:
    """Download a file into ``part``, resuming an earlier download.

    When the download fails or the process is killed, the bytes in ``part`` are kept. The next call resumes from them if
    the server still has the same version of the file (``ETag`` or ``Last-Modified``, saved in ``<part>.json``).

    Parameters
    ----------
    url
        Address of the file.
    part
        Path to write to; complete when this function returns.
    size
        Size of the complete file in bytes, if known.
    retry
        Timeouts and number of attempts.

    Raises
    ------
    DownloadError
        If the server cannot be reached, does not have the file, has a file of another size, or breaks off each attempt.
    PerturbenchError
        If the disk does not have room for the file.
    """
    retry = retry or RetryPolicy()
    failures = 0
    with requests.Session() as session:
        while True:
            before = _size(part)
            try:
                return _resume(session, url, part, size, retry)
            except (_Interrupted, requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
                # New bytes show that the server works, so that the attempts count from the start again.
                failures = 1 if _size(part) > before else failures + 1
                if failures >= retry.attempts:
                    raise DownloadError(f"{url} cannot be downloaded: {_reason(error)}") from error
                wait = retry.pause * 2 ** (failures - 1)
                logger.warning("download of %s was interrupted: %s; resuming in %.3g s", url, _reason(error), wait)
                time.sleep(wait)
            except requests.RequestException as error:
                raise DownloadError(f"{url} cannot be downloaded: {_reason(error)}") from error


def partial_size(part: Path, url: str) -> int:
    """Return the number of bytes of an earlier download that can be resumed."""
    return _size(part) if _version(part, url) else 0


def remove_version(part: Path) -> None:
    """Remove the file that records which version of the published file was downloaded."""
    _version_file(part).unlink(missing_ok=True)


def _resume(session: requests.Session, url: str, part: Path, size: int | None, retry: RetryPolicy) -> None:
    start, version = _size(part), _version(part, url)
    resume = {"Range": f"bytes={start}-", "If-Range": version} if start and version else {}
    with session.get(url, headers={**_HEADERS, **resume}, stream=True, timeout=(retry.connect, retry.read)) as response:
        status = response.status_code
        if status == 416 and response.headers.get("Content-Range") == f"bytes */{start}":
            return  # nothing is left to download: the part is already complete
        if status == 416 or (
            status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        ):
            part.unlink()
            raise _Interrupted("the server cannot resume at this byte; downloading from the start")
        if status in _RETRIED_STATUS:
            raise _Interrupted(f"the server answers {status} {response.reason}")
        if status not in (200, 206):
            raise DownloadError(f"{url} cannot be downloaded: the server answers {status} {response.reason}.")
        start = start if status == 206 else 0
        total = _total(response, start, size, url)
        _require_room(part.parent, (total or 0) - start)
        _write_version(part, url, response)
        _copy(response, part, start, total)
    if total is not None and _size(part) != total:
        raise _Interrupted(f"received {_size(part)} of {total} bytes")


def _total(response: requests.Response, start: int, size: int | None, url: str) -> int | None:
    """Return the size of the complete file; refuse a file of an unexpected size before it is downloaded."""
    length = response.headers.get("Content-Length")
    offered = size if length is None else start + int(length)
    if size not in (None, offered):
        raise DownloadError(
            f"{url} is not the expected file: the server offers {offered} bytes, expected {size}. "
            "To use it anyway, add --params=data.source.mismatch:accept."
        )
    return offered


def _copy(response: requests.Response, part: Path, start: int, total: int | None) -> None:
    with part.open("ab" if start else "wb") as sink, _progress(part.stem, start, total) as advance:
        for chunk in response.raw.stream(_CHUNK, decode_content=False):
            sink.write(chunk)
            advance(len(chunk))


@contextmanager
def _progress(name: str, start: int, total: int | None) -> Iterator[Callable[[int], object]]:
    """Show a progress bar on a terminal; elsewhere, log a line for each tenth of the file."""
    if sys.stderr.isatty():
        with tqdm(desc=name, initial=start, total=total, unit="B", unit_scale=True) as bar:
            yield bar.update
        return
    logger.info("downloading %s, %s, from byte %d", name, decimal(total) if total else "of unknown size", start)
    done = start

    def advance(n_bytes: int) -> None:
        nonlocal done
        tenth = 10 * done // total if total else 0
        done += n_bytes
        if total and 10 * done // total > tenth:
            logger.info("%s: %d %% of %s", name, 100 * done // total, decimal(total))

    yield advance


def _require_room(folder: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise PerturbenchError(
            f"'{folder}' has room for {decimal(free)}, but the download needs {decimal(n_bytes)}; free some "
            "space, or set another folder with --params=data.source.cache:<folder>."
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _write_version(part: Path, url: str, response: requests.Response) -> None:
    tag = response.headers.get("ETag", "W/")
    # A weak tag does not guarantee identical bytes, and servers refuse to resume with one.
    version = response.headers.get("Last-Modified") if tag.startswith("W/") else tag
    _version_file(part).write_text(json.dumps({"url": url, "version": version}))


def _version(part: Path, url: str) -> str | None:
    """Return the version of the file that ``part`` was downloaded from; ``None`` if it cannot be resumed."""
    try:
        saved = json.loads(_version_file(part).read_text())
    except (OSError, ValueError):
        return None
    return saved["version"] if saved["url"] == url else None


def _reason(error: Exception) -> str:
    """Return the message of the innermost cause, without the wrappers that requests and urllib3 put around it."""
    while isinstance(cause := getattr(error, "reason", None) or (error.args or (None,))[0], Exception):
        error = cause
    return f"{str(error).rpartition(': ')[2]}." if str(error) else f"{type(error).__name__}."
