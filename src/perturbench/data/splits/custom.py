"""Custom splits, read from a csv file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from perturbench.data.groups import Groups
from perturbench.data.labels import PARTS
from perturbench.data.splits.checks import check_split
from perturbench.errors import PerturbenchError, listing, require_choice

if TYPE_CHECKING:
    from perturbench.data.groups import Keys


def read_split(path: str | Path, obs: pd.DataFrame, keys: Keys, *, strict: bool = False) -> pd.Series:
    """Read a custom split from a csv of cell names and labels, with or without a header.

    Parameters
    ----------
    path
        Path of the csv. Cells without a label, and cells that are not in the file, are not used. Columns after the
        first two are ignored.
    obs
        Annotation of the cells, one row per cell.
    keys
        Names of the columns of ``obs`` with the perturbation and the covariates.
    strict
        Whether to refuse held-out combinations whose single perturbations are not all in training on their own.

    Returns
    -------
    Label of each cell, indexed like ``obs``.

    Raises
    ------
    PerturbenchError
        If the file does not exist, has unknown cells or labels, names a cell twice, leaves a part empty, or leaks.
    """
    table = _read_labels(path)
    # The first row is a header if it names neither a part nor a cell.
    if table.loc[0, "split"] not in PARTS and table.loc[0, "cell"] not in obs.index:
        table = table.iloc[1:]
    table = table.dropna(subset=["split"])
    for label in table["split"].unique():
        require_choice(f"split label in '{path}'", label, PARTS)
    rows = obs.index.get_indexer(table["cell"])
    unknown = table.loc[rows < 0, "cell"]
    if len(unknown):
        raise PerturbenchError(
            f"split file '{path}' names {len(unknown)} cells that are not in the data: "
            f"{listing(sorted(unknown))}; cells of the data are named like '{obs.index[0]}'."
        )
    twice = np.bincount(rows, minlength=len(obs)) > 1
    if twice.any():
        raise PerturbenchError(
            f"split file '{path}' names cells twice: {listing(obs.index[twice])}; give each cell one label."
        )
    labels = np.full(len(obs), np.nan, dtype=object)
    labels[rows] = table["split"]
    split = pd.Series(labels, index=obs.index, name="split")
    check_split(split, Groups.from_obs(obs, keys), strict=strict)
    return split


def _read_labels(path: str | Path) -> pd.DataFrame:
    if not Path(path).is_file():
        raise PerturbenchError(f"split file '{path}' not found; set splitter.path to a csv of cell names and labels.")
    try:
        table = pd.read_csv(path, header=None, dtype=str, usecols=[0, 1], skipinitialspace=True)
    except ValueError as error:
        raise PerturbenchError(f"split file '{path}' is not a csv of cell names and labels: {error}.") from error
    return table.set_axis(["cell", "split"], axis=1)
