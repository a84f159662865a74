"""Integer indices of the cells in a batch, and the tables of encoded names that they index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class BatchIndex(NamedTuple):
    """Positions of a batch's cells in the dataset, and the seed that matches their controls."""

    positions: np.ndarray
    seed: int


class CellIndices(NamedTuple):
    """Rows to gather for each cell of a batch, ``(n_cells,)`` integers each, in main memory or on a device.

    Attributes
    ----------
    rows
        Rows of the cells in the expression matrix; for counterfactuals, rows of their control cells.
    perturbations, states
        Rows of the cells' perturbations and states in the :class:`EncodingTables`.
    controls
        Rows of the matched control cells in the expression matrix; ``None`` if the dataset does not match controls.
    """

    rows: torch.Tensor
    perturbations: torch.Tensor
    states: torch.Tensor
    controls: torch.Tensor | None = None

    @classmethod
    def from_arrays(cls, *indices: np.ndarray) -> Self:
        """Convert arrays of indices to tensors."""
        return cls(*(torch.from_numpy(np.ascontiguousarray(index, dtype=np.int64)) for index in indices))

    def to(self, device: torch.device | None) -> Self:
        """Copy the indices to a device; ``None`` leaves them where they are."""
        return self if device is None else self._map(lambda index: index.to(device))

    def part(self, positions: slice) -> Self:
        """Return the indices of the cells at these positions."""
        return self._map(lambda index: index[positions])

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        return self._replace(**{name: function(index) for name, index in self._asdict().items() if index is not None})


class EncodingTables:
    """Tables of encoded perturbations and states; a batch gathers one row of each per cell.

    Parameters
    ----------
    multi_hot
        Multi-hot encoded perturbations, ``(n_rows, n_perturbations)`` float32.
    one_hot
        One-hot encoded values of each covariate, ``(n_states, n_values)`` float32.
    """

    def __init__(self, multi_hot: np.ndarray, one_hot: Mapping[str, np.ndarray]) -> None:
        self.multi_hot = torch.from_numpy(multi_hot)
        self.one_hot = {key: torch.from_numpy(table) for key, table in one_hot.items()}

    def place(self, device: torch.device | None) -> None:
        """Move the tables to a device, unless they are there already; ``None`` means main memory."""
        device = device or torch.device("cpu")
        if self.multi_hot.device != device:
            self.multi_hot = self.multi_hot.to(device)
            self.one_hot = {key: table.to(device) for key, table in self.one_hot.items()}

    def encode(self, indices: CellIndices) -> dict[str, Any]:
        """Return the fields ``perturbations`` and ``covariates`` of a batch."""
        covariates = {key: table.index_select(0, indices.states) for key, table in self.one_hot.items()}
        return {"perturbations": self.multi_hot.index_select(0, indices.perturbations), "covariates": covariates}
