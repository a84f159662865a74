"""Labels of a split: which part each cell belongs to, and which cells a part is evaluated on."""

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
    """Return the rows of a part's perturbed cells and of its states' controls.

    Parameters
    ----------
    labels
        Part of each cell, ``(n_cells,)``; empty where it is not used.
    groups
        Codes of the same cells.
    part
        Whose perturbed cells.
    controls
        Control cells of ``all`` parts, or of the ``part`` only.

    Raises
    ------
    PerturbenchError
        If ``part`` or ``controls`` is unknown.
    """
    require_choice("part", part, PARTS)
    require_choice("controls", controls, ("all", "part"))
    wanted = labels == part
    if controls == "all":
        wanted |= groups.is_control & (labels != "")
    return np.flatnonzero(wanted)


def align_split(split: pd.Series, names: pd.Index) -> np.ndarray:
    """Return the label of each named cell, ``(n_cells,)`` of str; empty where the split does not use the cell.

    Raises
    ------
    PerturbenchError
        If the split names cells twice or that are not there, or has labels other than train, val and test.
    """
    if split.index.has_duplicates:
        raise PerturbenchError(
            f"the split names cells twice: {listing(split.index[split.index.duplicated()])}; give each one label."
        )
    if n_strangers := int((~split.index.isin(names)).sum()):
        stranger = split.index[~split.index.isin(names)][0]
        raise PerturbenchError(
            f"the split names {n_strangers} of {len(split)} cells that the data does not have, first '{stranger}'; "
            "make the split from the same data."
        )
    labels = split.reindex(names).astype(object).fillna("").to_numpy(dtype=str)
    for label in np.unique(labels):
        if label:
            require_choice("split label", label, PARTS)
    return labels
