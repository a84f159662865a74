"""Whether the data of a task has to be made again, and the fingerprints of the cells and the split.

Computing the fingerprints reads all cells, so they are stored next to the data, with the size and the modification time
of every file that they depend on.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h5py

from perturbench.files import atomic_path, size_of
from perturbench.pipelines.stamps import current_inputs, embedding_input
from perturbench.provenance import KEY, Stamp

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import anndata as ad


def known_inputs(record: Path, expected: Stamp, files: Iterable[Path]) -> tuple[dict[str, str] | None, str]:
    """Return the recorded fingerprints of the cells and the split; if they are stale, ``None`` and the reason.

    Parameters
    ----------
    record
        The file that :func:`record_inputs` wrote.
    expected
        The stamp that newly made data would have. If it names no embedding, data that has one is up to date too.
    files
        The source file, and the files that were made from it.
    """
    try:
        known = json.loads(record.read_text())
        stamp, states, inputs = Stamp.read(known), known["files"], known["inputs"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, "it was not made by kedro benchmark"
    if stamp is None:
        return None, "its record has no readable stamp"
    if "embedding" not in expected.settings:
        stamp = stamp.without("embedding")
    changed = expected.differences(stamp)
    changed += [f"file {path}" for path, state in _states(files).items() if states.get(path) != state]
    return (None, f"stale: {'; '.join(changed)}") if changed else (inputs, "")


def record_inputs(record: Path, stamp: Stamp, files: Iterable[Path], prepared: Path, split: Path) -> dict[str, str]:
    """Store and return the fingerprints of the prepared cells, of each of their embeddings, and of the split."""
    import pandas as pd

    with h5py.File(prepared, "r") as h5:
        cells = _without_layers(h5)
        inputs = current_inputs(cells, pd.read_parquet(split))
        for key in cells.obsm:
            inputs |= embedding_input(cells, key)
    with atomic_path(record) as path:
        path.write_text(json.dumps({KEY: stamp.text(), "files": _states(files), "inputs": inputs}, indent=1))
    return inputs


def _without_layers(h5: h5py.File) -> ad.AnnData:
    """Return the cells with ``X`` on disk and without layers; AnnData's backed mode would load the layers."""
    import anndata as ad
    from anndata.io import read_elem, sparse_dataset

    matrix = h5["X"] if isinstance(h5["X"], h5py.Dataset) else sparse_dataset(h5["X"])
    return ad.AnnData(matrix, **{name: read_elem(h5[name]) for name in ("obs", "var", "obsm")})


def _states(files: Iterable[Path]) -> dict[str, Any]:
    return {str(path): [size_of(path), path.stat().st_mtime_ns] for path in files}
