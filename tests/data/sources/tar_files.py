"""Tar archives for tests."""

import io
import tarfile


def tar(mode="w:gz", **files):
    """Return the bytes of a tar archive with these files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()
