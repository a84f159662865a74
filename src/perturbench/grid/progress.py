"""What a person sees while the grid runs: a table on a terminal, lines elsewhere."""

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

    from perturbench.grid.cells import Cell

UP_TO_DATE, DONE, FAILED, WAITING, RUNNING = "up to date", "done", "failed", "waiting", "running"
_SHOWN = 12


class Progress:
    """The states of the grid's cells.

    Parameters
    ----------
    cells
        All cells of the grid.
    console
        Where to show them.
    """

    def __init__(self, cells: Sequence[Cell], console: Console | None = None) -> None:
        self._console = console or Console(soft_wrap=True, highlight=False)
        self._states = dict.fromkeys(cells, WAITING)
        self._logs: dict[Cell, Path] = {}
        self._since: dict[Cell, float] = {}
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
        """Print a line; above the table if there is one."""
        self._console.print(text, markup=False)

    def expect(self, logs: Mapping[Cell, Path]) -> None:
        """Take note of cells that will run: they are running once their logs are there."""
        for log in logs.values():
            log.unlink(missing_ok=True)
        self._logs = {**self._logs, **logs}

    def succeeded(self, cell: Cell) -> bool:
        """Return whether the prediction of a cell is there, and of now."""
        return self._states[cell] in (UP_TO_DATE, DONE)

    def end(self, cell: Cell, state: str, detail: str = "") -> None:
        """Set the final state of a cell, and say so in a line."""
        self._states[cell] = state
        ended = sum(state != WAITING for state in self._states.values())
        self.say(f"[{ended}/{len(self._states)}] {cell.name}: {state}{f' ({detail})' if detail else ''}")

    def _running(self) -> dict[Cell, float]:
        """Return the cells that run, and since when they were first seen to."""
        waiting = {cell: log for cell, log in self._logs.items() if self._states[cell] == WAITING}
        return {cell: self._since.setdefault(cell, time.time()) for cell, log in waiting.items() if log.exists()}

    def table(self) -> Table:
        """Return how many cells of each task are in each state, and what runs for how long."""
        running = self._running()
        table = Table("task", *(UP_TO_DATE, DONE, FAILED, RUNNING, WAITING), caption=_elapsed(running))
        for task in dict.fromkeys(cell.task for cell in self._states):
            own = [RUNNING if cell in running else state for cell, state in self._states.items() if cell.task == task]
            table.add_row(task, *(str(own.count(state)) for state in (UP_TO_DATE, DONE, FAILED, RUNNING, WAITING)))
        return table


def _elapsed(running: Mapping[Cell, float]) -> str:
    shown = [f"{cell.name} {_minutes(time.time() - since)}" for cell, since in list(running.items())[:_SHOWN]]
    return "\n".join(shown + ([f"and {len(running) - _SHOWN} more"] if len(running) > _SHOWN else []))


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    return f"{minutes}:{rest:02d}"
