"""Kedro commands of the project: ``kedro run`` also takes ``key:value``; ``kedro benchmark`` runs grids."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import click
from kedro.framework.cli.project import run as _kedro_run
from kedro.framework.cli.utils import env_option, split_string

from perturbench.errors import PerturbenchError
from perturbench.grid.processes import end_with_parent
from perturbench.startup import paused_collector

if TYPE_CHECKING:
    from collections.abc import Callable


@click.group(name="perturbench")
def cli() -> None:
    """Train, compare and trust models of single-cell perturbation responses."""


def _adapt(command: click.Command) -> click.Command:
    """Copy Kedro's run command so that it accepts colons in --params and shows user mistakes without a traceback."""
    command = copy.copy(command)
    command.params = [copy.copy(option) for option in command.params]
    for option in command.params:
        if option.name == "params":
            option.callback = _accept_colons(option.callback)
    command.callback = paused_collector()(_plain_errors(command.callback))
    return command


def _accept_colons(callback: Any) -> Callable[..., Any]:
    def parse(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        if isinstance(value, str):
            value = ",".join(_first_colon_to_equals(item) for item in value.split(","))
        return callback(ctx, param, value)

    return parse


def _first_colon_to_equals(item: str) -> str:
    key, colon, value = item.partition(":")
    return f"{key}={value}" if colon and "=" not in key else item


def _plain_errors(callback: Any) -> Callable[..., Any]:
    def run_plainly(*args: Any, **kwargs: Any) -> Any:
        end_with_parent()
        from kedro.io.core import DatasetError
        from kedro.validation.exceptions import ParameterValidationError

        try:
            return callback(*args, **kwargs)
        except PerturbenchError as error:
            raise click.ClickException(str(error)) from error
        except DatasetError as error:
            if (cause := _cause_of(error)) is None:
                raise
            raise click.ClickException(str(cause)) from error
        except ParameterValidationError as error:
            raise click.ClickException(str(error)) from error

    return run_plainly


def _cause_of(error: BaseException) -> PerturbenchError | None:
    """Return the user's mistake behind a dataset's error, which Kedro wraps more than once."""
    cause = error.__cause__
    while cause is not None and not isinstance(cause, PerturbenchError):
        cause = cause.__cause__
    return cause


run = _adapt(_kedro_run)
cli.add_command(run)


@cli.command()
@click.option("--suite", help="Name of a grid in conf/base/suites.yml; the options below override it.")
@click.option("--tasks", default="", callback=split_string, help="Comma-separated tasks.  [default: demo]")
@click.option("--models", default="", callback=split_string, help="Comma-separated models.")
@click.option("--seeds", default="", callback=split_string, help="Comma-separated seeds.  [default: 0]")
@click.option("--params", default="", help="More parameters of every run, as in kedro run.")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of runs at the same time on this machine.",
)
@click.option("--address", help="Address of a Ray cluster to run the grid on: auto or host:port.")
@click.option(
    "--gpus-per-run", type=click.FloatRange(0), default=0, show_default=True, help="GPUs per run; needs --address."
)
@click.option("--dry-run", is_flag=True, help="Print the commands of everything that is stale, and run nothing.")
@env_option
def benchmark(**options: Any) -> None:
    """Train and predict every stale combination of task, model and seed, then evaluate and report each task.

    Each run of the grid is a separate process with its own log; a run that fails does not stop the others.
    """
    from perturbench.grid.command import run_benchmark

    _plain_errors(run_benchmark)(parse=_parse_params, **options)


def _parse_params(text: str) -> dict[str, Any]:
    return run.make_context("run", [f"--params={text}"]).params["params"] or {}
