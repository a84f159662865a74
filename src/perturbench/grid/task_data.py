"""Whether the data of a task has to be made again, and the fingerprints of what is there.

Fingerprints need a pass over the cells, so they are kept with the size and time of every file that they depend on.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h5py

from perturbench.files import atomic_path, size_of
from perturbench.pipelines.inputs import current_inputs, embedding_input

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import anndata as ad


def known_inputs(record: Path, parameters: Mapping[str, str], files: Iterable[Path]) -> dict[str, str] | None:
    """Return the recorded fingerprints of the cells and the split; ``None`` if they have to be made again.

    Parameters
    ----------
    record
        What :func:`record_inputs` wrote.
    parameters
        Fingerprints of the parameters that the data depends on; the data may have been made with more.
    files
        The files that there are: the source, and what was made of it.
    """
    try:
        known = json.loads(record.read_text())
        same = known["parameters"].items() >= parameters.items() and known["files"].items() >= _states(files).items()
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    return known["inputs"] if same else None


def record_inputs(
    record: Path, parameters: Mapping[str, str], files: Iterable[Path], prepared: Path, split: Path
) -> dict[str, str]:
    """Return the fingerprints of the prepared cells, each of their embeddings and the split; write them down."""
    import pandas as pd

    with h5py.File(prepared, "r") as h5:
        cells = _without_layers(h5)
        inputs = current_inputs(cells, pd.read_parquet(split))
        for key in cells.obsm:
            inputs |= embedding_input(cells, key)
    with atomic_path(record) as path:
        path.write_text(json.dumps({"parameters": parameters, "files": _states(files), "inputs": inputs}, indent=1))
    return inputs


def _without_layers(h5: h5py.File) -> ad.AnnData:
    """Return cells whose ``X`` stays on disk, without the layers, which backed mode would load."""
    import anndata as ad
    from anndata.io import read_elem, sparse_dataset

    matrix = h5["X"] if isinstance(h5["X"], h5py.Dataset) else sparse_dataset(h5["X"])
    return ad.AnnData(matrix, **{name: read_elem(h5[name]) for name in ("obs", "var", "obsm")})


def _states(files: Iterable[Path]) -> dict[str, Any]:
    return {str(path): [size_of(path), path.stat().st_mtime_ns] for path in files}
