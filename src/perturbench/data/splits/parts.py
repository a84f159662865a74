"""The pairs and cells in each part of a split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from perturbench.data.groups import state_name
from perturbench.data.labels import PARTS

if TYPE_CHECKING:
    from perturbench.data.groups import Groups, Keys, Pair


def count_cells(split: pd.Series, groups: Groups) -> np.ndarray:
    """Count the cells of each part, state and perturbation in one pass.

    Parameters
    ----------
    split
        Label of each cell; missing for unused cells.
    groups
        States and perturbations of the same cells.

    Returns
    -------
    Numbers of cells, ``(n_parts + 1, n_states, n_conditions)``. The last part holds the unused cells; the condition
    ``groups.control_code`` holds the controls.
    """
    parts = pd.Categorical(split, categories=list(PARTS)).codes.astype(np.int64)
    parts[parts < 0] = len(PARTS)
    shape = (len(PARTS) + 1, len(groups.states), len(groups.conditions))
    # One flat index per (part, state, condition), so that one bincount counts them all.
    flat = (parts * shape[1] + groups.state_codes) * shape[2] + groups.condition_codes
    return np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape)


def perturbed_counts(cells: np.ndarray, groups: Groups) -> np.ndarray:
    """Return the result of :func:`count_cells` with the counts of control cells set to 0."""
    perturbed = cells.copy()
    if groups.control_code is not None:
        perturbed[..., groups.control_code] = 0
    return perturbed


def control_counts(cells: np.ndarray, groups: Groups) -> np.ndarray:
    """Return the number of control cells of each part and state, ``(n_parts + 1, n_states)``."""
    if groups.control_code is None:
        return np.zeros(cells.shape[:-1], dtype=cells.dtype)
    return cells[..., groups.control_code]


@dataclass(frozen=True)
class SplitCounts:
    """Pairs and cells of each part of a split, as the checks need them.

    Attributes
    ----------
    keys
        Notation of perturbations.
    pairs
        (State, perturbation) pairs of each part, sorted.
    states
        Names of the states.
    has_cells
        Whether a part has perturbed cells of a state, ``(n_parts, n_states)``.
    controls
        Number of control cells of a state in a part, ``(n_parts, n_states)``.
    """

    keys: Keys
    pairs: dict[str, list[Pair]]
    states: list[str]
    has_cells: np.ndarray
    controls: np.ndarray

    @classmethod
    def from_split(cls, split: pd.Series, groups: Groups) -> SplitCounts:
        """Count the pairs and cells of a split."""
        cells = count_cells(split, groups)[: len(PARTS)]
        perturbed = perturbed_counts(cells, groups) > 0
        pairs: dict[str, list[Pair]] = {
            part: [(groups.states[s], groups.conditions[c]) for s, c in np.argwhere(present)]
            for part, present in zip(PARTS, perturbed, strict=True)
        }
        states = [state_name(state) for state in groups.states]
        return cls(groups.keys, pairs, states, np.asarray(perturbed.any(axis=2)), control_counts(cells, groups))

    @property
    def heldout(self) -> list[tuple[str, Pair]]:
        """Part and pair of all held-out pairs."""
        return [(part, pair) for part in ("val", "test") for pair in self.pairs[part]]
