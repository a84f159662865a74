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
    """Group statistics of one side of an evaluation, observed or predicted, in the order of the reference's pairs.

    Attributes
    ----------
    name
        Name of the model; ``observed`` for the reference.
    means, counts
        Mean expression of each pair, ``(n_pairs, n_genes)`` float64, NaN without cells; number of cells of each pair.
    sums
        Sums and counts that the means were computed from; ``None`` if the means were given.
    cells
        Single cells, for metrics that need them; ``None`` if only means are known.
    """

    name: str
    means: np.ndarray
    counts: np.ndarray
    sums: GroupSums | None
    cells: Cells | None

    def __init__(self) -> None:
        self._cache: dict[Any, Any] = {}

    def cached(self, key: Any, compute: Callable[[], Any]) -> Any:
        """Return the result stored under a key; compute and store it first if there is none."""
        if key not in self._cache:
            self._cache[key] = compute()
        return self._cache[key]

    def require_cells(self, purpose: str) -> Cells:
        """Return the cells.

        Raises
        ------
        PerturbenchError
            If only means are known; ``purpose`` says what needs the cells.
        """
        if self.cells is None:
            raise PerturbenchError(
                f"{purpose} needs single cells, but '{self.name}' has only the mean of each pair; predict cells."
            )
        return self.cells
