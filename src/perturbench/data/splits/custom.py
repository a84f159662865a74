"""Read a split from a csv file or from a column of ``obs``."""

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

#: Labels of cells that are in no part. A missing label means the same.
_UNUSED = ("", "none", "None")


def read_split(path: str | Path, obs: pd.DataFrame, keys: Keys, *, strict: bool = False) -> pd.Series:
    """Read a split from a csv of cell names and labels, with or without a header.

    The published splits have this form. They have no header, and cells that they do not use have an empty label.

    Parameters
    ----------
    path
        Path of the csv. Every cell of ``obs`` has one row. Cells with an empty label or ``none`` are not used. Columns
        after the first two are ignored.
    obs
        Annotation of the cells, one row per cell.
    keys
        Names of the columns of ``obs`` with the perturbation and the covariates.
    strict
        Whether to refuse held-out combinations whose single perturbations are not all in training on their own.

    Returns
    -------
    Label of each cell, indexed like ``obs``; missing for unused cells.

    Raises
    ------
    PerturbenchError
        If the file does not exist, has other cells than ``obs`` or unknown labels, names a cell twice, leaves a part
        empty, or leaks.
    """
    table = _read_labels(path)
    # The first row is a header if it has a label that names no part, and names no cell.
    label = table.loc[0, "split"]
    if pd.notna(label) and label not in PARTS and table.loc[0, "cell"] not in obs.index:
        table = table.iloc[1:]
    rows = _rows_of(table["cell"], obs.index, path)
    labels = np.empty(len(obs), dtype=object)
    labels[rows] = table["split"]
    return _checked(pd.Series(labels, obs.index), f"'{path}'", obs, keys, strict)


def split_of_column(obs: pd.DataFrame, column: str, keys: Keys, *, strict: bool = False) -> pd.Series:
    """Take a split from a column of ``obs``.

    Parameters
    ----------
    column
        Column of ``obs`` with the label of each cell. Cells with a missing or empty label, or ``none``, are not used.
    obs, keys, strict
        See :func:`read_split`.

    Returns
    -------
    Label of each cell, indexed like ``obs``; missing for unused cells.

    Raises
    ------
    PerturbenchError
        If there is no such column, it has unknown labels, or the split leaves a part empty or leaks.
    """
    if column not in obs:
        raise PerturbenchError(
            f"splitter.column '{column}' is not a column of obs; columns are: {listing(obs.columns, 30)}. Draw a split "
            "with another splitter.method if the cells bring none."
        )
    return _checked(obs[column].astype(object), f"column '{column}'", obs, keys, strict)


def _checked(labels: pd.Series, source: str, obs: pd.DataFrame, keys: Keys, strict: bool) -> pd.Series:
    """Return the split with one name for unused cells, after checking its labels and what it holds out."""
    codes, found = pd.factorize(labels)
    for label in found:
        if label not in _UNUSED:
            require_choice(f"split label in {source}", label, PARTS)
    # A missing label has the code -1, which selects the last name.
    names = np.array([*(np.nan if label in _UNUSED else label for label in found), np.nan], dtype=object)
    split = pd.Series(names[codes], labels.index, name="split")
    check_split(split, Groups.from_obs(obs, keys), strict=strict)
    return split


def _rows_of(named: pd.Series, cells: pd.Index, path: str | Path) -> np.ndarray:
    """Return the row of each named cell; raise unless a split file has exactly the cells of the data, in any order."""
    rows = cells.get_indexer(named)
    times = np.bincount(rows[rows >= 0], minlength=len(cells))
    if (times > 1).any():
        raise PerturbenchError(
            f"split file '{path}' names cells twice: {listing(cells[times > 1])}; give each cell one label."
        )
    unknown, absent = named[rows < 0], cells[times == 0]
    if len(unknown) or len(absent):
        raise PerturbenchError(
            f"split file '{path}' does not belong to these cells: {len(unknown)} of the {len(named)} cells in it are "
            f"not in the data{_examples(unknown)}, and {len(absent)} of the {len(cells)} cells of the data are not in "
            f"it{_examples(absent)}. Name every cell of the data once; an empty label leaves a cell out."
        )
    return rows


def _examples(names: pd.Series | pd.Index) -> str:
    return f" ({listing(names)})" if len(names) else ""


def _read_labels(path: str | Path) -> pd.DataFrame:
    path = Path(path)
    if not path.is_file():
        found = sorted(other.name for other in path.parent.glob("*.csv")) if path.name else []
        instead = f"its folder has: {listing(found, 30)}" if found else "its folder has no csv file"
        raise PerturbenchError(
            f"split file '{path}' not found; {instead}. Set splitter.path to a csv of cell names and labels."
        )
    try:
        table = pd.read_csv(path, header=None, dtype=str, usecols=[0, 1], skipinitialspace=True)
    except ValueError as error:
        raise PerturbenchError(f"split file '{path}' is not a csv of cell names and labels: {error}.") from error
    return table.set_axis(["cell", "split"], axis=1)
