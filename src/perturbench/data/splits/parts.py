"""The parts of a split, and what is in them."""

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


@dataclass(frozen=True)
class SplitCounts:
    """What checks look at.

    Attributes
    ----------
    keys
        How perturbations are written.
    pairs
        (State, perturbation) pairs of each part, sorted.
    states
        Names of the states.
    has_cells, controls
        Whether a part has perturbed cells of a state, and its control cells, ``(n_parts, n_states)``.
    """

    keys: Keys
    pairs: dict[str, list[Pair]]
    states: list[str]
    has_cells: np.ndarray
    controls: np.ndarray

    @classmethod
    def of(cls, split: pd.Series, groups: Groups) -> SplitCounts:
        """Count a split."""
        cells = count_cells(split, groups)[: len(PARTS)]
        perturbed = without_controls(cells, groups) > 0
        pairs: dict[str, list[Pair]] = {
            part: [(groups.states[s], groups.conditions[c]) for s, c in np.argwhere(there)]
            for part, there in zip(PARTS, perturbed, strict=True)
        }
        states = [state_name(state) for state in groups.states]
        return cls(groups.keys, pairs, states, np.asarray(perturbed.any(axis=2)), of_controls(cells, groups))

    @property
    def heldout(self) -> list[tuple[str, Pair]]:
        """Part and pair of everything that is not in training."""
        return [(part, pair) for part in ("val", "test") for pair in self.pairs[part]]
