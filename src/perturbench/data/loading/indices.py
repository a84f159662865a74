"""Where the parts of a batch come from: integer positions in tables that all batches share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class BatchIndex(NamedTuple):
    """Positions of a batch's cells in a dataset, and the seed of its control matches."""

    positions: np.ndarray
    seed: int


class CellIndices(NamedTuple):
    """What a batch gathers for each of its cells, ``(n_cells,)`` integers each, on the host or on a device.

    Attributes
    ----------
    rows
        Rows of the expression matrix; the control cells of counterfactuals.
    perturbations, states
        Rows of the tables of encoded perturbations and states.
    controls
        Rows of the matched control cells in the expression matrix, where the dataset matches controls.
    """

    rows: torch.Tensor
    perturbations: torch.Tensor
    states: torch.Tensor
    controls: torch.Tensor | None = None

    @classmethod
    def of(cls, *indices: np.ndarray) -> Self:
        """Return the indices as tensors."""
        return cls(*(torch.from_numpy(np.ascontiguousarray(one, dtype=np.int64)) for one in indices))

    def to(self, device: torch.device | None) -> Self:
        """Return the indices on a device; ``None`` leaves them where they are."""
        return self if device is None else self._map(lambda one: one.to(device))

    def part(self, positions: slice) -> Self:
        """Return the indices of some cells."""
        return self._map(lambda one: one[positions])

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        return self._replace(**{name: function(one) for name, one in self._asdict().items() if one is not None})


class EncodingTables:
    """Encoded perturbations and states by position, from which batches are gathered.

    Parameters
    ----------
    multi_hot
        Perturbations, ``(n, n_perturbations)`` float32.
    one_hot
        Covariates of states, ``(m, n_levels)`` float32 each.
    """

    def __init__(self, multi_hot: np.ndarray, one_hot: Mapping[str, np.ndarray]) -> None:
        self.multi_hot = torch.from_numpy(multi_hot)
        self.one_hot = {key: torch.from_numpy(table) for key, table in one_hot.items()}

    def place(self, device: torch.device | None) -> None:
        """Move the tables to a device, if they are not there yet; ``None`` stands for the host."""
        device = device or torch.device("cpu")
        if self.multi_hot.device != device:
            self.multi_hot = self.multi_hot.to(device)
            self.one_hot = {key: table.to(device) for key, table in self.one_hot.items()}

    def encode(self, indices: CellIndices) -> dict[str, Any]:
        """Return ``perturbations`` and ``covariates`` of a batch."""
        covariates = {key: table.index_select(0, indices.states) for key, table in self.one_hot.items()}
        return {"perturbations": self.multi_hot.index_select(0, indices.perturbations), "covariates": covariates}
