"""Labels of a split: the part of each cell, and the cells that a part is evaluated on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from perturbench.errors import PerturbenchError, listing, require_choice

if TYPE_CHECKING:
    import pandas as pd

    from perturbench.data.groups import Groups

Part = Literal["train", "val", "test"]
Controls = Literal["all", "part"]
PARTS: tuple[Part, ...] = ("train", "val", "test")


def evaluation_rows(labels: np.ndarray, groups: Groups, part: Part, controls: Controls) -> np.ndarray:
    """Return the rows of the cells that a part is evaluated on: its perturbed cells, and control cells.

    Parameters
    ----------
    labels
        Part of each cell, ``(n_cells,)``; an empty string for unused cells.
    groups
        States and perturbations of the same cells.
    part
        The part to evaluate.
    controls
        Which control cells to include: those of ``all`` parts, or those of this ``part`` only.

    Raises
    ------
    PerturbenchError
        If ``part`` or ``controls`` is unknown.
    """
    require_choice("part", part, PARTS)
    require_choice("controls", controls, ("all", "part"))
    selected = labels == part
    if controls == "all":
        selected |= groups.is_control & (labels != "")
    return np.flatnonzero(selected)


def align_split(split: pd.Series, names: pd.Index) -> np.ndarray:
    """Return the label of each named cell, ``(n_cells,)`` of str; an empty string for cells that the split leaves out.

    Raises
    ------
    PerturbenchError
        If the split names a cell twice, names a cell that is not in ``names``, or has a label other than train, val
        and test.
    """
    if split.index.has_duplicates:
        raise PerturbenchError(
            f"the split names cells twice: {listing(split.index[split.index.duplicated()])}; give each cell one label."
        )
    unknown = split.index[~split.index.isin(names)]
    if len(unknown):
        raise PerturbenchError(
            f"{len(unknown)} of the {len(split)} cells in the split are not in the data, the first is '{unknown[0]}'; "
            "make the split from the same data."
        )
    labels = split.reindex(names).astype(object).fillna("").to_numpy(dtype=str)
    for label in np.unique(labels):
        if label:
            require_choice("split label", label, PARTS)
    return labels
