"""Downloading one file: resumed, retried, and never taken for whole before it is.

Libraries such as pooch start again after a broken connection and forget what they downloaded when its checksum differs;
with files of 15 GB neither will do.
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
_CHUNK = 1 << 20
_BUSY = (408, 425, 429, 500, 502, 503, 504)
# The file as it is, and not as a server may compress it on the way: sizes and checksums are of the file.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"perturbench/{__version__}"}


@dataclass(frozen=True)
class Patience:
    """How long a server may take to answer and to go on, in seconds, and how often it is asked without a new byte.

    ``pause`` is the wait before the second attempt; it doubles with each.
    """

    connect: float = 10.0
    read: float = 60.0
    attempts: int = 4
    pause: float = 1.0


class DownloadError(PerturbenchError):
    """A file that could not be downloaded: the message says what the server answered, or that it did not."""


class _BrokenOff(Exception):
    """A transfer that may be taken up again."""


def download(url: str, part: Path, size: int | None = None, patience: Patience | None = None) -> None:
    """Bring a file's bytes into ``part``, going on from those that are there.

    What is there is kept when this fails or is killed, and taken up by the next call if the server still has the same
    version of the file (``ETag`` or ``Last-Modified``, kept in ``<part>.json``).

    Parameters
    ----------
    url
        Of the file.
    part
        Where its bytes go; whole when this returns.
    size
        Bytes of the whole file, where known.
    patience
        Limits of waiting and asking again.

    Raises
    ------
    DownloadError
        If the server cannot be reached, has no such file or one of another size, or keeps breaking off.
    PerturbenchError
        If the disk has no room for the file.
    """
    patience = patience or Patience()
    failures = 0
    with requests.Session() as session:
        while True:
            before = _size(part)
            try:
                return _go_on(session, url, part, size, patience)
            except (_BrokenOff, requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
                failures = 1 if _size(part) > before else failures + 1
                if failures >= patience.attempts:
                    raise DownloadError(f"{url} cannot be downloaded: {_reason(error)}") from error
                wait = patience.pause * 2 ** (failures - 1)
                logger.warning("%s broke off: %s; going on in %.3g s", url, _reason(error), wait)
                time.sleep(wait)
            except requests.RequestException as error:
                raise DownloadError(f"{url} cannot be downloaded: {_reason(error)}") from error


def partial_size(part: Path, url: str) -> int:
    """Return how many bytes of a file an earlier download left to go on from."""
    return _size(part) if _version(part, url) else 0


def forget(part: Path) -> None:
    """Remove what belongs to a download but is not the file's bytes."""
    _note(part).unlink(missing_ok=True)


def _go_on(session: requests.Session, url: str, part: Path, size: int | None, patience: Patience) -> None:
    start, version = _size(part), _version(part, url)
    asked = {"Range": f"bytes={start}-", "If-Range": version} if start and version else {}
    with session.get(
        url, headers={**_HEADERS, **asked}, stream=True, timeout=(patience.connect, patience.read)
    ) as response:
        status = response.status_code
        if status == 416 and response.headers.get("Content-Range") == f"bytes */{start}":
            return
        if status == 416 or (
            status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        ):
            part.unlink()
            raise _BrokenOff("the server has no such range; starting again")
        if status in _BUSY:
            raise _BrokenOff(f"the server answers {status} {response.reason}")
        if status not in (200, 206):
            raise DownloadError(f"{url} cannot be downloaded: the server answers {status} {response.reason}.")
        start = start if status == 206 else 0
        total = _total(response, start, size, url)
        _require_room(part.parent, (total or 0) - start)
        _write_note(part, url, response)
        _copy(response, part, start, total)
    if total is not None and _size(part) != total:
        raise _BrokenOff(f"{_size(part)} of {total} bytes came")


def _total(response: requests.Response, start: int, size: int | None, url: str) -> int | None:
    """Return the bytes of the whole file, refusing a file of another size before it is downloaded."""
    length = response.headers.get("Content-Length")
    offered = size if length is None else start + int(length)
    if size not in (None, offered):
        raise DownloadError(
            f"{url} is not the file that was pinned: the server offers {offered} bytes, expected {size}. To use it as "
            "it is, add --params=data.source.mismatch:accept."
        )
    return offered


def _copy(response: requests.Response, part: Path, start: int, total: int | None) -> None:
    with part.open("ab" if start else "wb") as sink, _progress(part.stem, start, total) as advance:
        for chunk in response.raw.stream(_CHUNK, decode_content=False):
            sink.write(chunk)
            advance(len(chunk))


@contextmanager
def _progress(name: str, start: int, total: int | None) -> Iterator[Callable[[int], object]]:
    """Show a bar on a terminal, and otherwise a line in the log for each tenth of the file."""
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
            f"'{folder}' has room for {decimal(free)}, but {decimal(n_bytes)} are to be downloaded; make room, or name "
            "another folder with --params=data.source.cache:<folder>."
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _write_note(part: Path, url: str, response: requests.Response) -> None:
    tag = response.headers.get("ETag", "W/")
    # A weak tag does not promise the same bytes, and a server refuses it for a range.
    version = response.headers.get("Last-Modified") if tag.startswith("W/") else tag
    _note(part).write_text(json.dumps({"url": url, "version": version}))


def _version(part: Path, url: str) -> str | None:
    """Return the version of the file that the bytes in ``part`` are of; ``None`` if they cannot be added to."""
    try:
        note = json.loads(_note(part).read_text())
    except (OSError, ValueError):
        return None
    return note["version"] if note["url"] == url else None


def _reason(error: Exception) -> str:
    """Return what happened in words, without the layers of libraries around it."""
    while isinstance(cause := getattr(error, "reason", None) or (error.args or (None,))[0], Exception):
        error = cause
    return f"{str(error).rpartition(': ')[2]}." if str(error) else f"{type(error).__name__}."
