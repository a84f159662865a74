"""A PostgreSQL server on this machine, of Debian's package or on the path, for as long as a test runs."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

#: Root may not run the server; Debian's package makes its user.
_USER = "postgres"


def binaries() -> Path | None:
    """Return the folder of the server's programs, of the newest version there is."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    on_path = shutil.which("initdb")
    folders = [*([Path(on_path).resolve().parent] if on_path else []), *folders]
    return next((folder for folder in reversed(folders) if (folder / "initdb").exists()), None)


@contextlib.contextmanager
def serve():
    """Yield the address of an empty database on loopback."""
    programs = binaries()
    assert programs, "no PostgreSQL server here: apt-get install postgresql"
    with tempfile.TemporaryDirectory(prefix="perturbench-postgres-") as folder:
        account = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam(_USER)
            os.chown(folder, user.pw_uid, user.pw_gid)
            account = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        data, port = f"{folder}/data", _free_port()
        initdb = [programs / "initdb", "-D", data, "-U", "perturbench", "-A", "trust", "--no-sync"]
        subprocess.run(initdb, cwd=folder, check=True, stdout=subprocess.DEVNULL, **account)
        options = ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-k", folder, "-p", str(port)]
        with Path(folder, "log.txt").open("w") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, *options], cwd=folder, stdout=log, stderr=log, **account
            )
        try:
            _wait(programs / "pg_isready", port, server, Path(folder, "log.txt"))
            yield f"postgresql://perturbench@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # fast: does not wait for clients to leave
            server.wait(timeout=30)


def _wait(pg_isready: Path, port: int, server: subprocess.Popen, log: Path) -> None:
    for _ in range(300):
        ask = subprocess.run([pg_isready, "-h", "127.0.0.1", "-p", str(port), "-q"], check=False)
        if ask.returncode == 0:
            return
        assert server.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(f"the server does not answer: {log.read_text()}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
