"""The parts of a split, and how many cells of each state and perturbation are in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from perturbench.data.groups import Groups

PARTS = ("train", "val", "test")


def count_cells(split: pd.Series, groups: Groups) -> np.ndarray:
    """Count the cells of each part, state and perturbation, all in one pass.

    Parameters
    ----------
    split
        Label of each cell; missing where it is not used.
    groups
        Codes of the same cells.

    Returns
    -------
    ``(n_parts + 1, n_states, n_conditions)``, the last part being the unused cells; controls are the column
    ``groups.control_code``.
    """
    parts = pd.Categorical(split, categories=list(PARTS)).codes.astype(np.int64)
    parts[parts < 0] = len(PARTS)
    shape = (len(PARTS) + 1, len(groups.states), len(groups.conditions))
    flat = (parts * shape[1] + groups.state_codes) * shape[2] + groups.condition_codes
    return np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape)


def without_controls(cells: np.ndarray, groups: Groups) -> np.ndarray:
    """Return the counts of :func:`count_cells` with those of control cells set to 0."""
    perturbed = cells.copy()
    if groups.control_code is not None:
        perturbed[..., groups.control_code] = 0
    return perturbed


def of_controls(cells: np.ndarray, groups: Groups) -> np.ndarray:
    """Return the control cells of each part and state, ``(n_parts + 1, n_states)``."""
    if groups.control_code is None:
        return np.zeros(cells.shape[:-1], dtype=cells.dtype)
    return cells[..., groups.control_code]
