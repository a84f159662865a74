"""Group means, counts and cells of one side of an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perturbench.errors import PerturbenchError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from perturbench.analysis.profiles.cells import Cells
    from perturbench.data.group_sums import GroupSums


class Profiles:
    """Group statistics of one side, in the order of the reference's pairs.

    Attributes
    ----------
    name
        Of the model; ``observed`` for the reference.
    means, counts
        Mean expression ``(n_pairs, n_genes)`` float64, NaN for a pair without cells; cells per pair.
    sums
        What they come from, if squares were summed.
    cells
        The cells, for metrics that need them; ``None`` if only means are known.
    """

    name: str
    means: np.ndarray
    counts: np.ndarray
    sums: GroupSums | None
    cells: Cells | None

    def __init__(self) -> None:
        self._cache: dict[Any, Any] = {}

    def remember(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what was made for a key before, or make it."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def require_cells(self, what: str) -> Cells:
        """Return the cells.

        Raises
        ------
        PerturbenchError
            If only means are known.
        """
        if self.cells is None:
            raise PerturbenchError(f"{what} needs the cells of '{self.name}', of which only means are known.")
        return self.cells
