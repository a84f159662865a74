"""Run the grid: make the data of every task, run each stale run, and report every task."""

from __future__ import annotations

import itertools
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

from perturbench.config.selection import NotPublishedError
from perturbench.errors import PerturbenchError
from perturbench.grid.processes import execute, failure_of
from perturbench.grid.progress import DONE, FAILED, UP_TO_DATE, duration
from perturbench.grid.runs import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from perturbench.grid.processes import Job, Outcome
    from perturbench.grid.progress import Progress
    from perturbench.grid.suites import Suite
    from perturbench.grid.task import TaskOfGrid

    RunJobs = Callable[[Sequence[Job]], Generator[tuple[Job, Outcome]]]


def plan(suite: Suite, tasks: Mapping[str, TaskOfGrid]) -> tuple[list[Run], list[str]]:
    """Return the runs of a grid, and one line of text for each model that is left out of a task.

    Raises
    ------
    PerturbenchError
        If a task or model is unknown, a parameter is invalid, or every model is left out.
    """
    runs, left_out = [], []
    for task, model in itertools.product(suite.tasks, suite.models):
        try:
            tasks[task].check(model)
        except NotPublishedError as error:
            left_out.append(f"left out: {error}")
        else:
            runs += [Run(task, model, seed) for seed in suite.seeds]
    if not runs:
        raise PerturbenchError("\n".join(["nothing to run: every model is left out of every task", *left_out]))
    return list(dict.fromkeys(runs)), left_out


def commands(runs: Sequence[Run], tasks: Mapping[str, TaskOfGrid]) -> Iterator[str]:
    """Yield the commands that the grid would run, for ``--dry-run``."""
    for name, task in tasks.items():
        inputs, _ = task.inputs()
        if inputs is None:
            yield task.data_job().command
        for run in _runs_of(name, runs):
            if inputs is None or task.stale_because(run, inputs):
                yield task.run_job(run, inputs).command
        yield task.report_job().command


class Benchmark:
    """A grid; call it to run everything that is stale.

    Parameters
    ----------
    runs
        All runs of the grid.
    tasks
        The tasks by name.
    run_jobs
        Function that runs several jobs, and yields each job and its outcome when it has ended.
    progress
        Display of the runs and their states.
    run_alone
        Function that runs the one job that makes a task's data or report.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        tasks: Mapping[str, TaskOfGrid],
        run_jobs: RunJobs,
        progress: Progress,
        run_alone: Callable[[Job], Outcome] = execute,
    ) -> None:
        self._runs, self._tasks, self._run_jobs, self._progress = runs, tasks, run_jobs, progress
        self._run_alone = run_alone
        self.reported: list[str] = []
        #: Reason of each failure, by the name of the job: a run, or the data or the report of a task.
        self.failures: dict[str, str] = {}

    def __call__(self) -> None:
        """Run everything that is stale; a failure does not stop the rest."""
        stale = dict(itertools.chain.from_iterable(self._stale_runs(name) for name in self._tasks))
        self._progress.expect({run: job.log for run, job in stale.items()})
        left = Counter(run.task for run in stale)
        for name in self._tasks:
            self._report(name, left)
        run_of = {job.name: run for run, job in stale.items()}
        with closing(self._run_jobs(list(stale.values()))) as ended:
            for job, outcome in ended:
                run = run_of[job.name]
                self._progress.end(run, *self._judge(job, outcome))
                if job.name in self.failures and self._tasks[run.task].prediction_of(run).is_file():
                    self.failures[job.name] += "; its earlier prediction is kept"
                left[run.task] -= 1
                self._report(run.task, left)

    def _stale_runs(self, name: str) -> Iterator[tuple[Run, Job]]:
        """Make the data of a task if it is missing or stale; then yield the stale runs of the task with their jobs."""
        task = self._tasks[name]
        inputs, reason = task.inputs()
        if inputs is None:
            self._progress.say(f"{name}: making the data ({reason})")
            if self._alone(task.data_job()):
                inputs = task.record_inputs()
        for run in _runs_of(name, self._runs):
            if inputs is None:
                self._progress.end(run, FAILED, "the task's data could not be made")
            elif reason := task.stale_because(run, inputs):
                self._progress.say(f"{run.name}: {reason}")
                yield run, task.run_job(run, inputs)
            else:
                self._progress.end(run, UP_TO_DATE)

    def _report(self, name: str, left: Mapping[str, int]) -> None:
        """Evaluate and report a task when its last run has ended, unless all of them failed."""
        if left[name] == 0 and any(self._progress.succeeded(run) for run in _runs_of(name, self._runs)):
            self._progress.say(f"{name}: evaluating")
            if self._alone(self._tasks[name].report_job()):
                self.reported.append(name)

    def _alone(self, job: Job) -> bool:
        """Run one job and wait for it; return whether it succeeded."""
        return self._judge(job, self._run_alone(job))[0] == DONE

    def _judge(self, job: Job, outcome: Outcome) -> tuple[str, str]:
        """Return how a job ended and how long it took; if it failed, remember why."""
        if outcome.code == 0:
            return DONE, duration(outcome.seconds)
        self.failures[job.name] = f"{failure_of(job, outcome)} ({job.shown_log})"
        return FAILED, duration(outcome.seconds)


def _runs_of(task: str, runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.task == task]
