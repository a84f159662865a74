"""Matching of cells with control cells of the same state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from perturbench.data.groups import state_name
from perturbench.data.random import INCREMENT, scramble, uniform
from perturbench.errors import PerturbenchError, listing

if TYPE_CHECKING:
    from perturbench.data.groups import Groups


class ControlPool:
    """Control cells sorted by state, so that a whole batch is matched at once.

    Parameters
    ----------
    groups
        States and perturbations of all cells.
    rows
        Cells whose control cells are used, ``(n_rows,)``.
    """

    def __init__(self, groups: Groups, rows: np.ndarray) -> None:
        controls = rows[groups.is_control[rows]]
        states = groups.state_codes[controls]
        # The controls of a state are next to each other: a start and a count locate them.
        self._rows = controls[np.argsort(states, kind="stable")]
        self.counts = np.bincount(states, minlength=len(groups.states))
        self._starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        self._states = groups.states

    def require_controls(self, state_codes: np.ndarray) -> None:
        """Raise unless each of the given states has a control cell.

        Raises
        ------
        PerturbenchError
            If a state has no control cell; the message names the states.
        """
        without = [code for code in np.unique(state_codes) if self.counts[code] == 0]
        if without:
            raise PerturbenchError(
                f"no control cells in {len(without)} of {len(self._states)} states: "
                f"{listing(state_name(self._states[code]) for code in without)}. Every state needs control cells: "
                "add them, drop the state, or check the control value."
            )

    def controls_of(self, state_code: int) -> np.ndarray:
        """Return the rows of the control cells of a state."""
        start = self._starts[state_code]
        return self._rows[start : start + self.counts[state_code]]

    def match(self, rows: np.ndarray, state_codes: np.ndarray, seed: int) -> np.ndarray:
        """Draw a control cell of the same state for each cell.

        The draw depends only on the seed and the cell, not on its batch or on the process that loads the batch.

        Parameters
        ----------
        rows, state_codes
            Rows of the cells, and the codes of their states, ``(n_cells,)`` each.
        seed
            Seed of the draws; the data loader passes another one each epoch.
        """
        with np.errstate(over="ignore"):
            keys = rows.astype(np.uint64) + np.uint64(seed % 2**32 + 1) * INCREMENT
        draw = uniform(scramble(scramble(keys)))
        offset = (draw * self.counts[state_codes]).astype(np.int64)
        return self._rows[self._starts[state_codes] + offset]
