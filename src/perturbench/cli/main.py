"""``perturbench``: score h5ad files without a project, list a project's data sets, or run the packaged project."""

from __future__ import annotations

import sys

import click

from perturbench.cli.data import data
from perturbench.cli.evaluate import evaluate


@click.group()
def main() -> None:
    """Train, compare and trust models of single-cell perturbation responses."""


main.add_command(data)
main.add_command(evaluate)


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...]) -> None:
    """Run pipelines of the packaged project; takes the options of kedro run."""
    from kedro.framework.cli.utils import find_run_command
    from kedro.framework.project import configure_project

    configure_project("perturbench")
    find_run_command("perturbench")(list(arguments), standalone_mode=not hasattr(sys, "ps1"))
