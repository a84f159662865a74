"""Whether a score may be compared with a published one: the same cells, split and hyperparameters."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Data with less than this share of the published cells is a development slice.
_SLICE = 0.5
#: Sections of the parameters that scores depend on, besides those of the data and the split.
_SECTIONS = ("hparams", "trainer", "preprocessing", "prediction")
#: Parameters of these sections that only decide where and how fast a run is.
_OF_THE_MACHINE = {
    f"trainer.{name}"
    for name in (
        "accelerator",
        "compile",
        "devices",
        "log_every_n_epochs",
        "num_workers",
        "preload_to_device",
        "strategy",
    )
}


@dataclass(frozen=True)
class Origin:
    """Where the cells and the split of a report come from.

    Attributes
    ----------
    source
        Where the cells were read from: ``raw`` or ``processed`` (published forms of the data set), ``file`` (a file of
        the user), ``simulation``, or ``unknown``.
    cells, published_cells
        Number of cells here, and in the publication; ``None`` if unknown.
    splitter
        Parameters that the split was made with; empty if unknown.
    """

    source: str = "unknown"
    cells: int | None = None
    published_cells: int | None = None
    splitter: Mapping[str, Any] = field(default_factory=dict)

    @property
    def development_slice(self) -> str | None:
        """The numbers of cells as text, if these are a small part of the published ones; otherwise ``None``."""
        if self.source != "file" or self.cells is None or self.published_cells is None:
            return None
        if self.cells >= _SLICE * self.published_cells:
            return None
        return f"{self.cells:,} of {self.published_cells:,} cells"

    def differences(self) -> list[str]:
        """Return in short phrases how the cells and the split differ from the published ones."""
        return [
            *([] if self.source == "processed" else [_DATA.get(self.source, "data of unknown source")]),
            *([] if has_published_split(self) else ["a split of our own"]),
        ]


_DATA = {
    "raw": "data curated from the raw file",
    "file": "a data file of your own",
    "simulation": "simulated data",
}


def has_published_split(origin: Origin) -> bool:
    """Return whether the split is the published one: the file that belongs to the published processed cells."""
    return origin.source == "processed" and origin.splitter.get("method") == "csv"


def run_differences(commands: Iterable[str]) -> list[str]:
    """Return in short phrases how runs differ from the published ones in what their command lines set.

    Parameters
    ----------
    commands
        The command line of each run of a model, see ``command`` of :class:`perturbench.provenance.Stamp`; an empty one
        belongs to a prediction that no run of the project made.
    """
    found: dict[str, None] = {}
    for command in commands:
        found |= dict.fromkeys(_differences_of_run(command))
    return list(found)


def _differences_of_run(command: str) -> list[str]:
    if not command:
        return ["a prediction from elsewhere"]
    params = _parameters(command)
    changed = [name for name in params if name.split(".")[0] in _SECTIONS and name not in _OF_THE_MACHINE]
    published = params.get("hyperparameters") == "published"
    return [*([] if published else ["other hyperparameters"]), *(f"{name} changed" for name in sorted(changed))]


def _parameters(command: str) -> dict[str, str]:
    """Return the parameters that a command line sets, and those in the comments below it."""
    line, *comments = command.split("\n")
    params: dict[str, str] = {}
    for word in shlex.split(line):
        if word.startswith("--params="):
            entries = (entry.partition(":") for entry in word.removeprefix("--params=").split(","))
            params |= {name: value for name, _, value in entries}
    for comment in comments:
        if match := re.match(r"# with ([\w.]+): (.*)", comment):
            params[match[1]] = match[2]
    return params
