"""The command ``kedro benchmark``: read its options, run the grid, print the leaderboards."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perturbench.errors import PerturbenchError
from perturbench.grid.benchmark import Benchmark, commands, plan
from perturbench.grid.on_ray import run_on_ray
from perturbench.grid.processes import LOG_VARIABLES, execute, gpu_slots, run_local
from perturbench.grid.progress import Progress
from perturbench.grid.suites import choose
from perturbench.grid.task import Params, TaskOfGrid, load_suites
from perturbench.grid.warm import WarmProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perturbench.grid.benchmark import RunJobs
    from perturbench.grid.processes import Job, Outcome

_GRID_PARAMETERS = ("task", "model", "seed")


def run_benchmark(
    parse: Callable[[str], dict[str, Any]],
    suite: str | None,
    tasks: list[str],
    models: list[str],
    seeds: list[str],
    params: str,
    env: str | None,
    jobs: int,
    address: str | None,
    gpus_per_run: float,
    dry_run: bool,
) -> None:
    """Run a grid, or print its commands; see the options of ``kedro benchmark``.

    Raises
    ------
    PerturbenchError
        If an option is invalid. Options are checked before anything runs.
    ClickException
        If something failed; the message lists all failures and their reasons.
    """
    root, env = _project_folder(), env or os.environ.get("KEDRO_ENV")
    sys.path.append(str(root))  # makes the user's own models and metrics importable
    if gpus_per_run and not address:
        raise PerturbenchError("--gpus-per-run needs a Ray cluster; give its address with --address.")
    if suite is None and not models:
        raise PerturbenchError("no models are given; use --models=latent_additive,linear_additive or --suite=demo.")
    grid = choose(load_suites(root, env), suite, params, tasks=tasks, models=models, seeds=seeds)
    nested = parse(grid.params)
    if reserved := [name for name in _GRID_PARAMETERS if name in nested]:
        raise PerturbenchError(f"--params sets {', '.join(reserved)}; use --tasks, --models and --seeds instead.")
    given = Params(tuple(item for item in grid.params.split(",") if item), nested)
    variables = _variables(jobs)
    of_grid = {name: TaskOfGrid(root, name, given, env, variables) for name in dict.fromkeys(grid.tasks)}
    runs, left_out = plan(grid, of_grid)
    if dry_run:
        click.echo("\n".join(commands(runs, of_grid)))
        return
    for line in left_out:
        click.echo(line)
    with Progress(runs) as progress, WarmProcess(root, LOG_VARIABLES | variables) as warm:
        run_jobs: RunJobs = partial(run_local, slots=gpu_slots(jobs), warm=warm)
        run_alone: Callable[[Job], Outcome] = partial(_run_alone, warm=warm)
        if address:
            run_jobs, run_alone = partial(run_on_ray, address=address, gpus=gpus_per_run), execute
        benchmark = Benchmark(runs, of_grid, run_jobs, progress, run_alone)
        _until_interrupted(benchmark)
    _show(benchmark, of_grid)


def _run_alone(job: Job, warm: WarmProcess) -> Outcome:
    """Run the job that makes the data or the report of a task."""
    if not job.fork:
        warm.start()  # it imports the libraries of the runs that follow while the data is made
    return execute(job, warm=warm)


def _project_folder() -> Path:
    from kedro.utils import find_kedro_project

    return Path(find_kedro_project(Path.cwd()) or Path.cwd())


def _variables(jobs: int) -> dict[str, str]:
    """Return the environment variables of the runs.

    These are the project's own variables, which machines of a cluster do not have, and the number of threads per run,
    so that runs at the same time share the CPUs.
    """
    project = {name: value for name, value in os.environ.items() if name.startswith(("PERTURBENCH_", "MLFLOW_"))}
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))} if jobs > 1 else {}
    return threads | {name: os.environ[name] for name in threads if name in os.environ} | project


def _until_interrupted(benchmark: Benchmark) -> None:
    """Run the grid; SIGTERM stops it as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        benchmark()
    except KeyboardInterrupt:
        raise click.ClickException("stopped; run the same command again to continue.") from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _show(benchmark: Benchmark, tasks: dict[str, TaskOfGrid]) -> None:
    """Print the leaderboards and the paths of the reports; raise an error that lists the failures, if there are any."""
    import pandas as pd

    from perturbench.analysis.leaderboard import print_leaderboard

    for name in benchmark.reported:
        task = tasks[name]
        print_leaderboard(pd.read_csv(task.path("leaderboard")), task.title, pd.read_csv(task.path("anchors")))
        click.echo(f"report: {task.path('report')}")
    if benchmark.failures:
        raise click.ClickException(_summary([f"{name}: {why}" for name, why in benchmark.failures.items()]))


def _summary(failures: Sequence[str]) -> str:
    return "\n".join([f"{len(failures)} failed:", *failures])
