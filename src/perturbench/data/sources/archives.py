"""Unpacking of downloaded archives; a killed process leaves either nothing or everything."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from perturbench.errors import PerturbenchError
from perturbench.files import atomic_path

_TAR = (".tar", ".tar.gz", ".tgz")


def unpacked_name(name: str) -> str:
    """Return the name after unpacking: a folder for a tar, a file for a gzip, else the name of the file itself."""
    suffix = next((suffix for suffix in (*_TAR, ".gz") if name.endswith(suffix)), "")
    return name.removesuffix(suffix)


def unpack(archive: Path, target: Path) -> None:
    """Unpack a gzip into the file ``target``, or a tar into the folder ``target``.

    If all files of a tar share a top folder, it is left out: ``splits/small.csv`` becomes ``<target>/small.csv``.

    Raises
    ------
    PerturbenchError
        If the archive is damaged, or holds files that would be written outside of ``target``.
    """
    try:
        with atomic_path(target) as partial:
            if archive.name.endswith(_TAR):
                _untar(archive, partial)
            else:
                with gzip.open(archive) as source, partial.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    except (EOFError, gzip.BadGzipFile, zlib.error, tarfile.TarError, ValueError) as error:
        raise PerturbenchError(f"'{archive}' cannot be unpacked: {error}. Delete it to download it again.") from error


def _untar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        # macOS adds a "._" file with its own attributes for every file.
        files = [member for member in tar.getmembers() if member.isfile() and "/._" not in f"/{member.name}"]
        if not files:
            raise tarfile.ReadError("it holds no files")
        shared = os.path.commonpath([str(PurePosixPath(member.name).parent) for member in files])
        for member in files:
            member.name = str(PurePosixPath(member.name).relative_to(shared))
        # The filter "data" refuses absolute paths, links and paths that leave the folder.
        tar.extractall(folder, members=files, filter="data")
