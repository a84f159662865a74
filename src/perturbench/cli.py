"""Project command line: ``kedro run`` also takes ``key:value``; ``kedro benchmark`` runs several models."""

from __future__ import annotations

import copy
import itertools
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import click
from kedro.framework.cli.project import run as _kedro_run
from kedro.framework.cli.utils import env_option, split_string

from perturbench.errors import PerturbenchError

if TYPE_CHECKING:
    from collections.abc import Callable


#: Parameters of one model's stage, which the stages of all models do not take.
_OF_A_MODEL = ("hparams", "hyperparameters", "search_space")


@click.group(name="perturbench")
def cli() -> None:
    """Train, compare and trust models of single-cell perturbation responses."""


def _adapt(command: click.Command) -> click.Command:
    """Return a copy of Kedro's run command that takes colons and shows user errors without a traceback."""
    command = copy.copy(command)
    command.params = [copy.copy(option) for option in command.params]
    for option in command.params:
        if option.name == "params":
            option.callback = _accept_colons(option.callback)
    command.callback = _plain_errors(command.callback)
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
            raise click.ClickException(_without_pydantic_links(str(error))) from error

    return run_plainly


def _cause_of(error: BaseException) -> PerturbenchError | None:
    """Return the user's mistake that a dataset told of; Kedro wraps it, more than once."""
    cause = error.__cause__
    while cause is not None and not isinstance(cause, PerturbenchError):
        cause = cause.__cause__
    return cause


def _without_pydantic_links(message: str) -> str:
    message = re.sub(r" \[type=\w+, input_value=(.*), input_type=\w+\]", r" (got \1)", message)
    return re.sub(r"\n *For further information visit \S+", "", message)


run = _adapt(_kedro_run)
cli.add_command(run)


@cli.command()
@click.option("--tasks", default="demo", callback=split_string, help="Comma-separated tasks.")
@click.option("--models", required=True, callback=split_string, help="Comma-separated models.")
@click.option("--seeds", default="0", callback=split_string, help="Comma-separated seeds.")
@click.option("--params", default="", help="More parameters for every run, as in kedro run.")
@env_option
def benchmark(tasks: list[str], models: list[str], seeds: list[str], params: str, env: str | None) -> None:
    """Train and predict every task, model and seed, each in its own process; then evaluate and report each task."""
    failed = []
    for task in tasks:
        shared = ",".join(item for item in params.split(",") if not item.startswith(_OF_A_MODEL))
        if _kedro("ingestion,splitting,preprocessing", env, shared, task=task):
            failed.append(f"{task}: data")
            continue
        for model, seed in itertools.product(models, seeds):
            if _kedro("modeling", env, params, task=task, model=model, seed=seed):
                failed.append(f"{task}/{model}/seed{seed}")
        if _kedro("evaluation,reporting", env, shared, task=task):
            failed.append(f"{task}: evaluation")
    if failed:
        raise click.ClickException(f"{len(failed)} runs failed: {', '.join(failed)}")


def _kedro(pipelines: str, env: str | None, params: str, **chosen: str) -> int:
    """Run pipelines in a process of their own: tracking runs and GPU memory do not outlive it."""
    items = [f"{key}={value}" for key, value in chosen.items()] + [item for item in params.split(",") if item]
    command = [sys.executable, "-m", "kedro", "run", f"--pipelines={pipelines}", f"--params={','.join(items)}"]
    click.secho(f"$ kedro {' '.join(command[3:])}", fg="blue")
    return subprocess.run(command + ([f"--env={env}"] if env else []), check=False).returncode
