"""Which control cell a cell is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from perturbench.data.groups import state_name
from perturbench.data.random import INCREMENT, scramble, uniform
from perturbench.errors import PerturbenchError, listing

if TYPE_CHECKING:
    from perturbench.data.groups import Groups


class ControlPool:
    """Control cells by state, for matching whole batches at once.

    Parameters
    ----------
    groups
        Codes of all cells.
    rows
        The cells to take controls from, ``(n_rows,)``.
    """

    def __init__(self, groups: Groups, rows: np.ndarray) -> None:
        controls = rows[groups.is_control[rows]]
        states = groups.state_codes[controls]
        self._rows = controls[np.argsort(states, kind="stable")]
        self.counts = np.bincount(states, minlength=len(groups.states))
        self._starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        self._states = groups.states

    def require(self, state_codes: np.ndarray) -> None:
        """Raise unless every one of these states has a control cell.

        Raises
        ------
        PerturbenchError
            Naming the states without.
        """
        bare = [code for code in np.unique(state_codes) if self.counts[code] == 0]
        if bare:
            raise PerturbenchError(
                f"no control cells in {len(bare)} of {len(self._states)} states: "
                f"{listing(state_name(self._states[code]) for code in bare)}. Every state needs controls: "
                "add them, drop the state, or check the control value."
            )

    def of_state(self, state_code: int) -> np.ndarray:
        """Return the rows of a state's control cells."""
        start = self._starts[state_code]
        return self._rows[start : start + self.counts[state_code]]

    def match(self, rows: np.ndarray, state_codes: np.ndarray, seed: int) -> np.ndarray:
        """Return a random control of the same state for each cell.

        The choice depends on the seed and the cell alone, not on the batch it is in or the process that loads it.

        Parameters
        ----------
        rows, state_codes
            The cells and the codes of their states, ``(n_cells,)``.
        seed
            Another seed gives other matches; the loader passes one per epoch.
        """
        with np.errstate(over="ignore"):
            keys = rows.astype(np.uint64) + np.uint64(seed % 2**32 + 1) * INCREMENT
        draw = uniform(scramble(scramble(keys)))
        offset = (draw * self.counts[state_codes]).astype(np.int64)
        return self._rows[self._starts[state_codes] + offset]
