"""Directives that write tables of tasks and models from the configuration, so that the pages are never out of date."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from perturbench.config.loader import LayeredConfigLoader
from perturbench.config.sections import DataConfig

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sphinx.application import Sphinx

CONF = Path(__file__).parents[2] / "conf"


class Generated(SphinxDirective):
    """A directive that writes Markdown."""

    def run(self) -> list[nodes.Node]:
        """Parse the Markdown of :meth:`lines`, and rebuild the page when the configuration changes."""
        for path in CONF.rglob("*.yml"):
            self.env.note_dependency(str(path))
        node = nodes.container()
        self.state.nested_parse(StringList(self.lines(), source=self.env.docname), self.content_offset, node)
        return node.children

    def lines(self) -> list[str]:
        """Return Markdown."""
        raise NotImplementedError


class Tasks(Generated):
    """A table with one row per task."""

    def lines(self) -> list[str]:
        """Return the table."""
        rows = []
        for name, given in configuration().of_every_task().items():
            data = DataConfig(**given["data"])
            cells = f"{data.card.cells:,}" if data.card.cells else ""
            states = " x ".join(f"`{key}`" for key in data.covariate_keys)
            method = f"`{given['splitter']['method']}`"
            rows.append((f"`{name}`", cells, data.card.perturbations or "", states, method, data.licence or ""))
        return table(("task", "cells", "perturbations", "states", "split", "licence"), rows)


class Task(Generated):
    """A task's citation and its YAML, without the section ``data``."""

    required_arguments = 1

    def lines(self) -> list[str]:
        """Return the citation and the YAML."""
        name = self.arguments[0]
        own = yaml.safe_load((CONF / f"base/parameters/tasks/{name}.yml").read_text())["tasks"][name]
        shown = {key: value for key, value in own.items() if key not in ("title", "data")}
        card = DataConfig(**configuration().of_a_run(task=name)["data"]).card
        source = f"[{card.citation}]({card.url})." if card.citation else ""
        return [source, "", "```yaml", *yaml.safe_dump(shown, sort_keys=False).splitlines(), "```"]


class Hyperparameters(Generated):
    """A model's hyperparameters: defaults, search space, and the tasks with published values."""

    required_arguments = 1

    def lines(self) -> list[str]:
        """Return the table."""
        given = configuration().of_a_run(model=self.arguments[0])
        file = CONF / f"base/parameters/published/{self.arguments[0]}.yml"
        published = yaml.safe_load(file.read_text())["published"][self.arguments[0]] if file.is_file() else {}
        rows = [
            (f"`{name}`", f"`{written(value)}`", searched(given["search_space"].get(name)))
            for name, value in given["hparams"].items()
        ]
        known = f"Published values: {', '.join(f'`{name}`' for name in published)}." if published else ""
        return [*table(("hyperparameter", "default", "searched"), rows), "", known] if rows else ["No hyperparameters."]


@cache
def configuration() -> LayeredConfigLoader:
    """Return the project's configuration."""
    warnings.filterwarnings("ignore", "register_new_resolver", UserWarning)
    return LayeredConfigLoader(str(CONF), None, base_env="base", default_run_env="base")


def table(names: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    names = list(names)
    body = [f"| {' | '.join(row)} |" for row in rows]
    return [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}", *body]


def written(value: Any) -> str:
    """Return a value as YAML writes it; a path is relative to the project's folder."""
    text = yaml.safe_dump(value).removesuffix("...\n").strip()
    return text.removeprefix(f"{CONF.parent.resolve()}/")


def searched(entry: dict[str, Any] | None) -> str:
    """Return a short description of an entry of a search space."""
    if entry is None:
        return ""
    if entry["kind"] == "categorical":
        return ", ".join(f"`{written(choice)}`" for choice in entry["choices"])
    step = f", step {entry['step']}" if entry.get("step") else ""
    return f"{entry['low']} to {entry['high']}{step}{', log' if entry.get('log') else ''}"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    for name, directive in {"tasks": Tasks, "task": Task, "hyperparameters": Hyperparameters}.items():
        app.add_directive(name, directive)
    return {"parallel_read_safe": True}
