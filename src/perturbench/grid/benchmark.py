"""Run the grid: the data of every task, the cells that are not up to date, the report of every task."""

from __future__ import annotations

import itertools
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

from perturbench.config.selection import NotPublishedError
from perturbench.errors import PerturbenchError
from perturbench.grid.cells import Cell
from perturbench.grid.processes import execute, failure_of
from perturbench.grid.progress import DONE, FAILED, UP_TO_DATE

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from perturbench.grid.processes import Job, Outcome
    from perturbench.grid.progress import Progress
    from perturbench.grid.suites import Suite
    from perturbench.grid.task import TaskOfGrid

    Runner = Callable[[Sequence[Job]], Generator[tuple[Job, Outcome]]]


def plan(suite: Suite, tasks: Mapping[str, TaskOfGrid]) -> tuple[list[Cell], list[str]]:
    """Return the cells of a grid, and a line for each model that is left out of a task.

    Raises
    ------
    PerturbenchError
        If a task or model is unknown, parameters cannot be used, or nothing is left.
    """
    cells, left_out = [], []
    for task, model in itertools.product(suite.tasks, suite.models):
        try:
            tasks[task].check(model)
        except NotPublishedError as error:
            left_out.append(f"left out: {error}")
        else:
            cells += [Cell(task, model, seed) for seed in suite.seeds]
    if not cells:
        raise PerturbenchError("\n".join(["every model is left out of every task", *left_out]))
    return list(dict.fromkeys(cells)), left_out


def commands(cells: Sequence[Cell], tasks: Mapping[str, TaskOfGrid]) -> Iterator[str]:
    """Yield the commands that the grid would run now."""
    for name, task in tasks.items():
        inputs = task.inputs()
        if inputs is None:
            yield task.data_job().command
        for cell in _of(name, cells):
            if inputs is None or task.stale_because(cell, inputs):
                yield task.cell_job(cell, inputs).command
        yield task.report_job().command


class Benchmark:
    """A grid that runs; call it to run what is not up to date.

    Parameters
    ----------
    cells
        Its cells.
    tasks
        What the project says of each task.
    run
        Runs the processes of cells, and yields each when it has ended.
    progress
        Where to tell of it.
    run_alone
        Runs the process of a task's data or report.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        tasks: Mapping[str, TaskOfGrid],
        run: Runner,
        progress: Progress,
        run_alone: Callable[[Job], Outcome] = execute,
    ) -> None:
        self._cells, self._tasks, self._run, self._progress = cells, tasks, run, progress
        self._run_alone = run_alone
        self.reported: list[str] = []
        #: Why, by the name of what failed: a cell, or the data or the report of a task.
        self.failures: dict[str, str] = {}

    def __call__(self) -> None:
        """Run; what fails does not stop the others."""
        stale = dict(itertools.chain.from_iterable(self._stale_cells(name) for name in self._tasks))
        self._progress.expect({cell: job.log for cell, job in stale.items()})
        left = Counter(cell.task for cell in stale)
        for name in self._tasks:
            self._report(name, left)
        cell_of = {job.name: cell for cell, job in stale.items()}
        with closing(self._run(list(stale.values()))) as ended:
            for job, outcome in ended:
                cell = cell_of[job.name]
                self._progress.end(cell, *self._judge(job, outcome))
                if job.name in self.failures and self._tasks[cell.task].prediction_of(cell).is_file():
                    self.failures[job.name] += "; an earlier prediction of it is there"
                left[cell.task] -= 1
                self._report(cell.task, left)

    def _stale_cells(self, name: str) -> Iterator[tuple[Cell, Job]]:
        """Make the data of a task where it has to be made; yield the cells that have to run then."""
        task = self._tasks[name]
        inputs = task.inputs()
        if inputs is None:
            self._progress.say(f"{name}: making the data")
            if self._alone(task.data_job()):
                inputs = task.record_inputs()
        for cell in _of(name, self._cells):
            if inputs is None:
                self._progress.end(cell, FAILED, "there is no data")
            elif reason := task.stale_because(cell, inputs):
                self._progress.say(f"{cell.name}: {reason}")
                yield cell, task.cell_job(cell, inputs)
            else:
                self._progress.end(cell, UP_TO_DATE)

    def _report(self, name: str, left: Mapping[str, int]) -> None:
        """Evaluate and report a task whose last cell has ended, if there is something to report."""
        if left[name] == 0 and any(self._progress.succeeded(cell) for cell in _of(name, self._cells)):
            self._progress.say(f"{name}: evaluating")
            if self._alone(self._tasks[name].report_job()):
                self.reported.append(name)

    def _alone(self, job: Job) -> bool:
        """Run a process now; return whether all went well."""
        return self._judge(job, self._run_alone(job))[0] == DONE

    def _judge(self, job: Job, outcome: Outcome) -> tuple[str, str]:
        """Return the state that a process ended in and what to say of it; remember failures."""
        if outcome.code == 0:
            return DONE, f"{outcome.seconds:.0f} s"
        self.failures[job.name] = f"{failure_of(job, outcome)} ({job.shown_log})"
        return FAILED, f"{outcome.seconds:.0f} s"


def _of(task: str, cells: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell.task == task]
