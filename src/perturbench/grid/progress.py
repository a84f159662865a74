"""Show the progress of the grid: as a live table on a terminal, as lines of text elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from perturbench.grid.runs import Run

UP_TO_DATE, DONE, FAILED, WAITING, RUNNING = "up to date", "done", "failed", "waiting", "running"
_SHOWN = 12


class Progress:
    """The states of the grid's runs, shown as they change.

    Parameters
    ----------
    runs
        All runs of the grid.
    console
        Console to print to; standard output if not given.
    """

    def __init__(self, runs: Sequence[Run], console: Console | None = None) -> None:
        self._console = console or Console(soft_wrap=True, highlight=False)
        self._states = dict.fromkeys(runs, WAITING)
        self._logs: dict[Run, Path] = {}
        self._since: dict[Run, float] = {}
        self._live = Live(get_renderable=self.table, console=self._console, refresh_per_second=1)

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print a line; on a terminal it appears above the table."""
        self._console.print(text, markup=False)

    def expect(self, logs: Mapping[Run, Path]) -> None:
        """Delete the old logs of runs that are about to start; a run counts as running once its new log exists."""
        for log in logs.values():
            log.unlink(missing_ok=True)
        self._logs = {**self._logs, **logs}

    def succeeded(self, run: Run) -> bool:
        """Return whether a run has an up-to-date prediction."""
        return self._states[run] in (UP_TO_DATE, DONE)

    def end(self, run: Run, state: str, detail: str = "") -> None:
        """Set the final state of a run, and print it."""
        self._states[run] = state
        ended = sum(state != WAITING for state in self._states.values())
        self.say(f"[{ended}/{len(self._states)}] {run.name}: {state}{f' ({detail})' if detail else ''}")

    def _running(self) -> dict[Run, float]:
        """Return the runs in progress, and the time at which each was first seen to run."""
        waiting = {run: log for run, log in self._logs.items() if self._states[run] == WAITING}
        return {run: self._since.setdefault(run, time.time()) for run, log in waiting.items() if log.exists()}

    def table(self) -> Table:
        """Return a table of the number of runs per task and state; its caption says how long each has been running."""
        running = self._running()
        table = Table("task", *(UP_TO_DATE, DONE, FAILED, RUNNING, WAITING), caption=_elapsed(running))
        for task in dict.fromkeys(run.task for run in self._states):
            states = [RUNNING if run in running else state for run, state in self._states.items() if run.task == task]
            table.add_row(task, *(str(states.count(state)) for state in (UP_TO_DATE, DONE, FAILED, RUNNING, WAITING)))
        return table


def _elapsed(running: Mapping[Run, float]) -> str:
    shown = [f"{run.name} {duration(time.time() - since)}" for run, since in list(running.items())[:_SHOWN]]
    return "\n".join(shown + ([f"and {len(running) - _SHOWN} more"] if len(running) > _SHOWN else []))


def duration(seconds: float) -> str:
    """Return seconds as ``minutes:seconds``."""
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    return f"{minutes}:{rest:02d}"
