"""Raw data from a local file or from the simulator."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import scipy.sparse as sp

from perturbench.data.h5ad_checks import require_regular_file, require_sound_h5ad
from perturbench.data.sources.simulation import simulate
from perturbench.errors import PerturbenchError, require_choice
from perturbench.files import atomic_path
from perturbench.provenance import KEY, Stamp, fingerprint_code, modules_behind

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)


def obtain(kind: str, path: str | Path, simulation: Mapping[str, Any], how_to_get: str) -> Path:
    """Return the path of the raw h5ad, or of a folder of several files; simulate the h5ad first if ``kind`` says so.

    Parameters
    ----------
    kind
        ``file`` or ``simulation``.
    path
        Path of the file or folder, or path to write the simulation to.
    simulation
        Arguments of :func:`simulate`.
    how_to_get
        Instructions on how to get the file, for the error message.

    Raises
    ------
    PerturbenchError
        If the file does not exist, or is a pipe or a device.
    """
    require_choice("data.source.kind", kind, ("file", "simulation"))
    path = Path(path).resolve()
    if kind == "simulation":
        _simulate_to(path, simulation)
    elif not path.exists():
        raise PerturbenchError(f"raw file '{path}' does not exist. {how_to_get}")
    for file in path.glob("*.h5ad") if path.is_dir() else [path]:
        require_regular_file(file)
    return path


def read_cells(path: str | Path) -> ad.AnnData:
    """Read an h5ad file that may come from outside the project; sum values of ``X`` that are stored for one entry.

    Raises
    ------
    PerturbenchError
        If the file does not exist or is not a sound h5ad file.
    """
    require_sound_h5ad(path)
    try:
        adata = ad.read_h5ad(path)
    except (OSError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise PerturbenchError(f"'{path}' cannot be read as h5ad: {error}.") from error
    if sp.issparse(adata.X):
        adata.X.sum_duplicates()
    return adata


def _simulate_to(path: Path, arguments: Mapping[str, Any]) -> None:
    stamp = Stamp.make(settings={"simulation": dict(arguments)}, code={"simulation": _code_of_the_simulation()})
    if path.is_file():
        found = _stamp_of_simulation(path)
        if found is None:
            raise PerturbenchError(
                f"'{path}' exists and is not a simulation, so it is not overwritten. Move it, or set data.source.path."
            )
        changed = stamp.differences(found)
        if not changed:
            return
        logger.info("'%s' is stale: %s", path, "; ".join(changed))
    adata = simulate(**arguments)
    adata.uns[KEY] = stamp.text()
    with atomic_path(path) as partial:
        adata.write_h5ad(partial, compression="gzip")
    logger.info("simulated %d cells x %d genes: %s", *adata.shape, path)


def _code_of_the_simulation() -> str:
    return fingerprint_code(modules_behind([simulate.__module__], ["perturbench.data"]))


def _stamp_of_simulation(path: Path) -> Stamp | None:
    """Return the stamp of an earlier simulation; ``None`` if the file is anything else."""
    try:
        stamp = Stamp.read(ad.read_h5ad(path, backed="r").uns)
    except (OSError, KeyError, TypeError, ValueError):
        return None
    return stamp if stamp and "simulation" in stamp.settings else None
