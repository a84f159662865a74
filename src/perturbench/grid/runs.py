"""Runs of the grid, and whether a prediction is the one that its run would make now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perturbench.provenance import KEY, Stamp

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, order=True)
class Run:
    """A task, model and seed: one training and its prediction."""

    task: str
    model: str
    seed: int

    @property
    def name(self) -> str:
        """Return the name of the run in tables and logs."""
        return f"{self.task}/{self.model}/seed{self.seed}"


def stale_because(expected: Stamp, path: Path) -> str | None:
    """Return why a run has to be run, ``None`` if its prediction is up to date.

    Parameters
    ----------
    expected
        The stamp that the run would give its prediction now, see
        :func:`perturbench.pipelines.stamps.prediction_stamp`.
    path
        The prediction, h5ad.
    """
    if not path.is_file():
        return "no prediction yet"
    found = read_stamp(path)
    if found is None:
        return "the prediction has no stamp that can be read"
    changed = expected.differences(found)
    return f"stale: {'; '.join(changed)}" if changed else None


def needs_training(expected: Stamp, path: Path) -> bool:
    """Return whether the model has to be trained again, and not only to predict again, for a prediction."""
    found = read_stamp(path)
    return found is None or bool(expected.without("prediction").differences(found.without("prediction")))


def read_stamp(path: Path) -> Stamp | None:
    """Return the stamp of an h5ad, read without its matrix; ``None`` if there is none or the file is torn."""
    import h5py
    from anndata.io import read_elem

    try:
        with h5py.File(path, "r") as h5:
            return Stamp.read({KEY: read_elem(h5["uns"][KEY])})
    except (OSError, KeyError, TypeError, ValueError):
        return None
