"""Where raw data comes from: a file the user has, or the simulator."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad

from perturbench.data.sources.simulation import simulate
from perturbench.errors import PerturbenchError, require_choice
from perturbench.files import atomic_path
from perturbench.provenance import KEY, Stamp, fingerprint_code, modules_behind

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)


def obtain(kind: str, path: str | Path, simulation: Mapping[str, Any], how_to_get: str) -> Path:
    """Return the path of the raw h5ad, or of a folder of several, simulating it first where that is its source.

    Parameters
    ----------
    kind
        ``file`` or ``simulation``.
    path
        Where the file is, or where the simulation is written.
    simulation
        Arguments of :func:`simulate`.
    how_to_get
        What a user has to do to have the file, for the message.

    Raises
    ------
    PerturbenchError
        If the file is not there.
    """
    require_choice("data.source.kind", kind, ("file", "simulation"))
    path = Path(path).resolve()
    if kind == "simulation":
        _simulate_to(path, simulation)
    elif not path.exists():
        raise PerturbenchError(f"raw file '{path}' is not there. {how_to_get}")
    return path


def read_cells(path: str | Path) -> ad.AnnData:
    """Read an h5ad.

    Raises
    ------
    PerturbenchError
        If the file is not there or is no h5ad.
    """
    if not Path(path).is_file():
        raise PerturbenchError(f"file '{path}' is not there.")
    try:
        return ad.read_h5ad(path)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise PerturbenchError(f"'{path}' cannot be read as h5ad: {error}.") from error


def _simulate_to(path: Path, arguments: Mapping[str, Any]) -> None:
    stamp = Stamp.make(settings={"simulation": dict(arguments)}, code={"simulation": _code_of_the_simulation()})
    if path.is_file():
        found = _stamp_of_simulation(path)
        if found is None:
            raise PerturbenchError(
                f"'{path}' is there and is not a simulation; it is not overwritten. Move it, or set data.source.path."
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
