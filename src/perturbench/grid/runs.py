"""Runs of the grid, and whether the stored prediction of a run is up to date."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perturbench.provenance import KEY, Stamp

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, order=True)
class Run:
    """One task, model and seed: one training and its prediction."""

    task: str
    model: str
    seed: int

    @property
    def name(self) -> str:
        """Return the name of the run in tables and logs."""
        return f"{self.task}/{self.model}/seed{self.seed}"


def stale_because(expected: Stamp, path: Path) -> str | None:
    """Return why the prediction of a run is missing or stale, ``None`` if it is up to date.

    Parameters
    ----------
    expected
        The stamp that a new prediction of the run would have, see
        :func:`perturbench.pipelines.stamps.prediction_stamp`.
    path
        The h5ad file of the prediction.
    """
    if not path.is_file():
        return "no prediction yet"
    found = read_stamp(path)
    if found is None:
        return "the prediction has no readable stamp"
    changed = expected.differences(found)
    return f"stale: {'; '.join(changed)}" if changed else None


def needs_training(expected: Stamp, path: Path) -> bool:
    """Return whether a stale prediction needs a new training; otherwise the model only has to predict again."""
    found = read_stamp(path)
    return found is None or bool(expected.without("prediction").differences(found.without("prediction")))


def read_stamp(path: Path) -> Stamp | None:
    """Return the stamp of an h5ad file without reading its matrix; ``None`` if it has none or the file is damaged."""
    import h5py
    from anndata.io import read_elem

    try:
        with h5py.File(path, "r") as h5:
            return Stamp.read({KEY: read_elem(h5["uns"][KEY])})
    except (OSError, KeyError, TypeError, ValueError):
        return None
