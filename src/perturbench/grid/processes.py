"""Run processes, one after another or several at a time, each with its own log file.

``concurrent.futures`` and ``subprocess`` do the work. This module adds a log file per process, and ends the processes
when the grid is stopped or killed, which neither of the two nor joblib does. On this machine, most processes are forks
of one that has imported the libraries, see :mod:`perturbench.grid.warm`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from perturbench.grid.warm import end_this_process

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from perturbench.grid.warm import Fork, WarmProcess

_PATIENCE = 10.0
_PARENT = "PERTURBENCH_STARTED_BY"
#: Wide enough that a message fits on one line: the last line of a log is then the whole message.
LOG_VARIABLES = {"COLUMNS": "400"}


@dataclass(frozen=True)
class Job:
    """A ``kedro`` command to run as a process.

    Attributes
    ----------
    name
        Name of the job in messages.
    arguments, folder, variables
        Arguments, working folder and environment variables of the command.
    log
        File for its output.
    fork
        Whether it is forked from the warm process if there is one. A job that needs few libraries starts sooner as a
        new process than it could after the imports of the warm process.
    """

    name: str
    arguments: tuple[str, ...]
    folder: Path
    log: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    fork: bool = True

    @property
    def command(self) -> str:
        """Return the command line to type in a shell."""
        return shlex.join(["kedro", *self.arguments])

    @property
    def shown_log(self) -> str:
        """Return the path of the log relative to the project's folder."""
        return os.path.relpath(self.log, self.folder)


@dataclass(frozen=True)
class Outcome:
    """How a process ended: its exit status (negative: the signal that killed it) and its duration in seconds."""

    code: int
    seconds: float


def execute(job: Job, stop: threading.Event | None = None, warm: WarmProcess | None = None) -> Outcome:
    """Run a job and wait until it ends; end it early if ``stop`` is set, or if this process is interrupted.

    The job is a fork of the process ``warm`` if it can be, and a new process otherwise.
    """
    job.log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    forked = warm.fork(job.arguments, job.log, job.variables) if warm and job.fork else None
    process = forked or _new_process(job)
    try:
        while process.poll() is None and not (stop and stop.is_set()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
    finally:
        _end(process)
    assert process.returncode is not None
    return Outcome(process.returncode, time.monotonic() - start)


def _new_process(job: Job) -> subprocess.Popen[bytes]:
    variables = {**os.environ, **LOG_VARIABLES, **job.variables, _PARENT: str(os.getpid())}
    with job.log.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "kedro", *job.arguments],
            cwd=job.folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def end_with_parent() -> None:
    """End this process when the process that started it with :func:`execute` has ended, for example was killed."""
    if parent := os.environ.pop(_PARENT, None):
        threading.Thread(target=_watch, args=(int(parent),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    end_this_process(_PATIENCE)


def run_local(
    jobs: Sequence[Job], slots: Sequence[Mapping[str, str]] = ({},), warm: WarmProcess | None = None
) -> Generator[tuple[Job, Outcome]]:
    """Run jobs on this machine, one per slot at a time; yield each when it has ended.

    A slot is the environment variables of the processes that run in it, see :func:`gpu_slots`. If the caller stops
    early, for example at an interrupt, running processes are ended and no other is started. Jobs are forks of the
    process ``warm`` if one is given.
    """
    if jobs and warm:
        warm.start()
    stop = threading.Event()
    free: SimpleQueue[Mapping[str, str]] = SimpleQueue()
    for slot in slots:
        free.put(slot)

    def execute_in_slot(job: Job) -> Outcome:
        slot = free.get()
        try:
            return execute(replace(job, variables={**slot, **job.variables}), stop, warm)
        finally:
            free.put(slot)

    with ThreadPoolExecutor(len(slots)) as pool:
        try:
            running = {pool.submit(execute_in_slot, job): job for job in jobs}
            for future in as_completed(running):
                yield running[future], future.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def gpu_slots(n_jobs: int) -> list[dict[str, str]]:
    """Return the slots of so many jobs at once: each job sees one GPU of this machine, and jobs share GPUs evenly.

    ``CUDA_VISIBLE_DEVICES`` limits the GPUs that are used. Without GPUs, the slots set no variables.
    """
    limited = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = limited.split(",") if limited else [str(number) for number in range(_n_gpus())]
    return [{"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {} for number in range(n_jobs)]


def _n_gpus() -> int:
    """Return the number of NVIDIA GPUs as the driver lists them, without the import of torch."""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


def failure_of(job: Job, outcome: Outcome) -> str:
    """Return in one line why a process failed."""
    if outcome.code < 0:
        return f"killed by signal {-outcome.code}"
    lines = job.log.read_text(errors="replace").splitlines() if job.log.is_file() else []
    return last_error(lines) or f"exit status {outcome.code}"


def last_error(lines: Sequence[str]) -> str:
    """Return the last line of a log that reports an error, or the last line if none does."""
    texts = [line.strip() for line in lines if line.strip()]
    errors = [line for line in texts if _ERROR.match(line)]
    return (errors or texts or [""])[-1].removeprefix("Error: ")


_ERROR = re.compile(r"(Error|[\w.]+(Error|Exception|Interrupt)): ")


def _end(process: subprocess.Popen[bytes] | Fork) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
