"""``perturbench data``: list the data sets of a project and which of their files are on disk."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perturbench.config.sections import DataConfig
    from perturbench.data.sources.remote import FileStatus, RemoteFile

_ENVIRONMENT = click.option("--env", default=None, help="Kedro environment, as in kedro run.")


@click.group()
def data() -> None:
    """Show the data sets of the project in the current folder."""


@data.command(name="list")
@_ENVIRONMENT
def list_tasks(env: str | None) -> None:
    """List every task with its data set, size, licence, source and citation."""
    table = _table("task", "title", "cells", "perturbations", "download", "licence", "source")
    citations = {}
    for task, title, config in _tasks(env):
        card, form = config.card, config.source.form
        sizes = [file.bytes for file in form.files.values()] if form else []
        table.add_row(
            task,
            title,
            f"{card.cells:,}" if card.cells else "",
            card.perturbations,
            _download_size(sizes),
            config.licence or "not stated",
            _source(config),
        )
        if card.citation:
            citations[config.dataset] = f"{config.dataset}: {card.citation}. {card.url or ''}"
    _show(table)
    click.echo("\n".join(["cite:", *citations.values()]))


@data.command()
@_ENVIRONMENT
def status(env: str | None) -> None:
    """Show which files are on disk, their sizes and whether their checksums were verified."""
    table = _table("data set", "file", "state", "on disk", "checked")
    for config in {config.dataset: config for _, _, config in _tasks(env)}.values():
        for row in _files(config):
            table.add_row(config.dataset, *row)
    _show(table)


def _files(config: DataConfig) -> Iterator[tuple[str, ...]]:
    """Yield the name, state, size and checksum result of each file of a data set."""
    from perturbench.data.sources.remote import file_status

    if (form := config.source.form) is None:
        path = Path(config.source.path or "")
        yield path.name, *(("there", decimal(path.stat().st_size), "at ingestion") if path.is_file() else ("missing",))
        return
    for remote in form.remote_files:
        found = file_status(remote, config.folder)
        size = decimal(found.bytes) if found.bytes else ""
        yield remote.unpacked, _progress(found, remote), size, _check(found, remote)


def _tasks(env: str | None) -> list[tuple[str, str, DataConfig]]:
    """Return the name, title and data section of each task of the project."""
    from kedro.config import MissingConfigException

    from perturbench.config.loader import LayeredConfigLoader
    from perturbench.config.sections import DataConfig

    root = next((folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "conf/base").is_dir()), None)
    if root is None:
        raise click.ClickException(
            f"no project found: neither '{Path.cwd()}' nor a folder above it has conf/base. Change to a project folder."
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "register_new_resolver", UserWarning)
            loader = LayeredConfigLoader(str(root / "conf"), env, base_env="base", default_run_env="local")
            tasks = loader.of_every_task()
        return [(task, given["title"], DataConfig(**given["data"])) for task, given in tasks.items()]
    except (ValueError, MissingConfigException) as error:
        raise click.ClickException(str(error)) from error


def _source(config: DataConfig) -> str:
    form = config.source.form
    if form is None:
        return "simulated" if config.source.kind == "simulation" else f"file {Path(config.source.path or '').name}"
    hosts = sorted({file.url.split("/")[2] for file in form.files.values()})
    others = [kind for kind in config.source.published if kind != config.source.kind]
    return f"{config.source.kind}: {', '.join(hosts)}" + (f"; or {', '.join(others)}" if others else "")


def _download_size(sizes: list[int | None]) -> str:
    if not sizes:
        return ""
    known = [size for size in sizes if size]
    if not known:
        return "unknown"
    return decimal(sum(known)) if len(known) == len(sizes) else f"over {decimal(sum(known))}"


def _progress(found: FileStatus, remote: RemoteFile) -> str:
    if found.status == "partial" and remote.bytes:
        return f"{100 * found.bytes // remote.bytes} % downloaded"
    return "partly downloaded" if found.status == "partial" else found.status


def _check(found: FileStatus, remote: RemoteFile) -> str:
    if found.status != "there":
        return ""
    if found.record is None:
        return "not yet; at the next ingestion"
    if found.record.matches is None:
        return (
            "nothing to compare with" if remote.checksum is None else "not comparable: only the unpacked file is there"
        )
    return "verified" if found.record.matches else "differs, accepted"


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _show(table: Table) -> None:
    # A pipe has no width; a large one keeps each row on one line.
    console = Console()
    console = console if console.is_terminal else Console(width=400)
    console.print(table)
