"""Splits from a file."""

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
    """Read a custom split: a csv of cell name and label, with or without a header; cells may be left out.

    Parameters
    ----------
    path
        Of the csv; a cell without a label, or that is not in it, is not used. Further columns are ignored.
    obs
        One row per cell.
    keys
        Its columns.
    strict
        Refuse held-out combinations of perturbations that training never saw singly.

    Returns
    -------
    Label of each cell, indexed like ``obs``.

    Raises
    ------
    PerturbenchError
        If the file is not there, names unknown or doubled cells or labels, leaves a part empty or leaks.
    """
    table = _read_labels(path)
    if table.loc[0, "split"] not in PARTS and table.loc[0, "cell"] not in obs.index:
        table = table.iloc[1:]
    table = table.dropna(subset=["split"])
    for label in table["split"].unique():
        require_choice(f"split label in '{path}'", label, PARTS)
    rows = obs.index.get_indexer(table["cell"])
    strangers = table.loc[rows < 0, "cell"]
    if len(strangers):
        raise PerturbenchError(
            f"split file '{path}' names {len(strangers)} cells that the data does not have: "
            f"{listing(sorted(strangers))}; cells are named like '{obs.index[0]}'."
        )
    twice = np.bincount(rows, minlength=len(obs)) > 1
    if twice.any():
        raise PerturbenchError(f"split file '{path}' names cells twice: {listing(obs.index[twice])}.")
    labels = np.full(len(obs), np.nan, dtype=object)
    labels[rows] = table["split"]
    split = pd.Series(labels, index=obs.index, name="split")
    check_split(split, Groups.from_obs(obs, keys), strict=strict)
    return split


def _read_labels(path: str | Path) -> pd.DataFrame:
    if not Path(path).is_file():
        raise PerturbenchError(f"split file '{path}' not found; set splitter.path to a csv of cell name and label.")
    try:
        table = pd.read_csv(path, header=None, dtype=str, usecols=[0, 1], skipinitialspace=True)
    except ValueError as error:
        raise PerturbenchError(f"split file '{path}' is not a csv of cell name and label: {error}.") from error
    return table.set_axis(["cell", "split"], axis=1)
