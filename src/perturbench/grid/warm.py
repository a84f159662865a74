"""A process that has imported the heavy libraries once; each run of the grid is a fork of it.

A new process spends more time on the imports of torch, Lightning and MLflow than a small model needs to train. The warm
process imports libraries only, never this project's own code, so that a run always uses the code that is on disk when
it starts, which is the code that its stamp records.

``multiprocessing`` has a fork server too. It shares its environment, folder and output with the process that starts it,
which the libraries read when they are imported, and it cannot be asked from several threads at once.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_LIBRARIES = (
    "kedro.framework.cli",
    "kedro.framework.session",
    "kedro.runner",
    "kedro_datasets.partitions",
    "anndata",
    "scipy.stats",
    "torch._dynamo",
    "lightning",
)
_TRACKING_LIBRARIES = ("mlflow.store.tracking.sqlalchemy_store", "lightning.pytorch.loggers", "git")
#: torch asks the driver's list for the number of GPUs. Otherwise it would start CUDA, which does not survive a fork.
_NO_CUDA = "PYTORCH_NVML_BASED_CUDA_CHECK"
_NUMBER = struct.Struct("i")
_PATIENCE = 10.0
_LONGEST_REQUEST = 1 << 17


class Fork:
    """A run that was forked from the warm process; it has the methods of ``subprocess.Popen`` that the grid uses.

    Attributes
    ----------
    returncode
        Exit status; negative: the signal that ended it; ``None`` while it runs. 1 if the warm process died.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._pid = connection, 0
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, or ``None`` if the run has not ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the run and return its exit status.

        Raises
        ------
        TimeoutExpired
            If the run has not ended after ``timeout`` seconds.
        """
        # The first number is the process identifier, the second one the exit status.
        while self.returncode is None:
            number = self._receive(timeout)
            if number is None:
                self.returncode = 1
            elif self._pid:
                self.returncode = number
            else:
                self._pid = number
        self._connection.close()
        return self.returncode

    def terminate(self) -> None:
        """Ask the run to end; one that the warm process has not started yet never starts."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the run at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)
        else:
            self._connection.shutdown(socket.SHUT_RDWR)

    def _receive(self, timeout: float | None) -> int | None:
        self._connection.settimeout(timeout)
        try:
            message = self._connection.recv(_NUMBER.size)
        except (TimeoutError, BlockingIOError):
            raise subprocess.TimeoutExpired("kedro", timeout or 0.0) from None
        except OSError:
            message = b""
        return _NUMBER.unpack(message)[0] if message else None


class WarmProcess:
    """The process that runs are forked from; it ends at the end of the ``with`` block.

    Parameters
    ----------
    folder
        Working folder of the runs.
    variables
        Environment variables that libraries read when they are imported, such as ``OMP_NUM_THREADS``.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self._folder, self._variables = folder, variables
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._control is not None:
            self._control.close()  # it ends now, unless it is still importing
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.2)
            self._process.kill()
            self._process.wait()
            self._process = None

    def start(self) -> None:
        """Start the process, which imports the libraries while this one goes on; do nothing if it was started.

        Only on Linux: elsewhere, system libraries do not survive a fork.
        """
        if self._process is not None or sys.platform != "linux":
            return
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "perturbench.grid.warm", str(theirs.fileno())],
            cwd=self._folder,
            env={**os.environ, **self._variables},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()

    def fork(self, arguments: Sequence[str], log: Path, variables: Mapping[str, str]) -> Fork | None:
        """Start ``kedro`` with these arguments as a fork that writes to a log; ``None`` if there is no warm process."""
        if self._process is None or self._control is None or self._process.poll() is not None:
            return None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = json.dumps({"arguments": list(arguments), "log": str(log), "variables": dict(variables)})
        with theirs:
            try:
                with self._lock:
                    socket.send_fds(self._control, [request.encode()], [theirs.fileno()])
            except OSError:
                ours.close()
                return None
        return Fork(ours)


def _import_libraries() -> None:
    """Import the libraries of the runs. One that cannot be imported is left to the runs, whose logs then name it."""
    os.environ[_NO_CUDA] = "1"
    tracked = os.environ.get("PERTURBENCH_TRACKING", "on") != "off"
    for name in _LIBRARIES + (_TRACKING_LIBRARIES if tracked else ()):
        with contextlib.suppress(Exception):
            import_module(name)
    del os.environ[_NO_CUDA]
    # Keeps the garbage collector of the forks from touching, and so copying, the memory that they share.
    gc.freeze()


def _serve(control: socket.socket) -> tuple[dict[str, Any], socket.socket]:
    """Fork once per request, until the grid closes the connection; return only in the forks.

    Each run has a parent that only waits for it, so that one process never has to watch several runs.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the runs and the grid, which ends this process
    while True:
        message, descriptors, *_ = socket.recv_fds(control, _LONGEST_REQUEST, 1)
        if not message:
            _end_server()
        connection = socket.socket(fileno=descriptors[0])
        if os.fork() == 0:
            control.close()
            if pid := os.fork():
                _wait_for(pid, connection)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            return json.loads(message), connection
        connection.close()


def _end_server() -> NoReturn:
    """Wait for the parents of the runs, which end with their runs."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    os._exit(0)


def _wait_for(pid: int, connection: socket.socket) -> NoReturn:
    with contextlib.suppress(OSError):  # the grid may have ended
        connection.send(_NUMBER.pack(pid))
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):
        connection.send(_NUMBER.pack(os.waitstatus_to_exitcode(status)))
    os._exit(0)


def _run(request: dict[str, Any], connection: socket.socket) -> None:
    """Be a new process that runs ``kedro``: its output, environment and arguments."""
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.environ.update(request["variables"])
    sys.argv = ["kedro", *request["arguments"]]
    threading.Thread(target=_end_with_grid, args=(connection,), daemon=True).start()
    from kedro.framework.cli import main

    main()


def _end_with_grid(connection: socket.socket) -> None:
    """End this run when the grid's side of the connection is closed, for example because the grid was killed."""
    with contextlib.suppress(OSError):
        connection.recv(1)
    end_this_process(_PATIENCE)


def end_this_process(patience: float) -> None:
    """End this process: ask it to stop and, if it goes on for so many seconds, kill it."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience)  # after SIGTERM, Lightning stops training after the current batch, but continues a prediction
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    _control = socket.socket(fileno=int(sys.argv[1]))
    _import_libraries()
    _run(*_serve(_control))
