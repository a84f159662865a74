"""Tasks to evaluate on, and the protocol of sources that find a task by its name."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import perturbench

if TYPE_CHECKING:
    import anndata as ad
    import pandas as pd

    from perturbench.data.groups import Keys


@dataclass(frozen=True)
class Task:
    """A task: cells, and the split that holds some of them out.

    Attributes
    ----------
    cells
        Log-normalised cells of all parts, ``(n_cells, n_genes)``.
    split
        Part of each cell (``train``, ``val`` or ``test``), with the names of the cells as index. Cells that the split
        does not use may be absent.
    keys
        Columns of ``obs`` that hold the perturbation and the covariates.
    """

    cells: ad.AnnData
    split: pd.Series
    keys: Keys


class TaskSource(Protocol):
    """A place where tasks have names, such as a project's configuration."""

    def names(self) -> list[str]:
        """Return the names of all tasks."""

    def load(self, name: str) -> Task:
        """Return a task by its name.

        Raises
        ------
        PerturbenchError
            If the cells or the split of the task do not exist yet; the message says how to make them.
        """


def default_source() -> TaskSource:
    """Return the source that the package names in ``perturbench.TASK_SOURCE``.

    The library must not import the project. The top of the package therefore names the source as text, and the source
    is imported only when a task is requested by name.
    """
    return pkgutil.resolve_name(perturbench.TASK_SOURCE)()
