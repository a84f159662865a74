"""Cells of the grid, and whether a prediction is what a new run of its cell would make."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perturbench.provenance import KEY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, order=True)
class Cell:
    """A task, model and seed: one training and its prediction."""

    task: str
    model: str
    seed: int

    @property
    def name(self) -> str:
        """Return the name that tables and logs have the cell under."""
        return f"{self.task}/{self.model}/seed{self.seed}"


def stale_because(expected: Mapping[str, Any], path: Path) -> str | None:
    """Return why the prediction in a file is not the one that a new run would make; ``None`` if it is.

    Parameters
    ----------
    expected
        The stamp that a new run would record, see :func:`perturbench.pipelines.inputs.prediction_stamp`.
    path
        The prediction, h5ad.
    """
    if not path.is_file():
        return "not there yet"
    found = read_stamp(path)
    if found is None:
        return "the prediction has no stamp that can be read"
    changed = changes(expected, found)
    return f"changed: {', '.join(changed)}" if changed else None


def needs_training(expected: Mapping[str, Any], path: Path) -> bool:
    """Return whether more than the settings of the prediction changed since the prediction in a file was made."""
    found = read_stamp(path)
    return found is None or changes(expected, found) != [_WORDS["prediction"]]


def changes(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return what differs between two stamps, in words; inputs by their names."""
    before, after = found.get("inputs", {}), expected["inputs"]
    inputs = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    facts = ["version", "task", "model", "seed", "code", "parameters", "prediction", "hparams"]
    return inputs + [_WORDS.get(name, name) for name in facts if _plain(found.get(name)) != _plain(expected.get(name))]


_WORDS = {"code": "the model's code", "hparams": "hyperparameters", "prediction": "prediction settings"}


def read_stamp(path: Path) -> dict[str, Any] | None:
    """Return the stamp of an h5ad, read without its matrix; ``None`` if there is none or the file is torn."""
    import h5py
    from anndata.io import read_elem

    try:
        with h5py.File(path, "r") as h5:
            return dict(read_elem(h5["uns"][KEY]))
    except (OSError, KeyError, TypeError, ValueError):
        return None


def _plain(value: Any) -> Any:
    """Return a value as it is after a stay in an h5ad; JSON text as what it says."""
    if isinstance(value, str) and value.startswith("{"):
        return json.loads(value)
    return value.item() if hasattr(value, "item") else value
