"""Sums of predicted cells per pair, on the device that predicts them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import numpy as np


def sum_dtype(device: torch.device) -> torch.dtype:
    """Return the type of sums on a device: float64, which Apple's GPUs do not have."""
    return torch.float32 if device.type == "mps" else torch.float64


class PairSums:
    """Add up predicted cells per pair where they are, so that only the sums are copied to the host.

    Parameters
    ----------
    n_pairs, n_genes
        Size of the sums.
    device
        Device of the predicted cells.
    """

    def __init__(self, n_pairs: int, n_genes: int, device: torch.device) -> None:
        self._sums = torch.zeros(n_pairs, n_genes, dtype=sum_dtype(device), device=device)
        self._counts = torch.zeros(n_pairs, dtype=torch.int64, device=device)

    def add(self, predicted: torch.Tensor, pair_codes: torch.Tensor) -> None:
        """Add cells ``(n_cells, n_genes)`` of the pairs at these positions, ``(n_cells,)``."""
        self._sums.index_add_(0, pair_codes, predicted.to(self._sums.dtype))
        self._counts.index_add_(0, pair_codes, torch.ones_like(pair_codes))

    def to_host(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums, ``(n_pairs, n_genes)``, and the number of cells of each pair, ``(n_pairs,)``."""
        return self._sums.cpu().numpy(), self._counts.cpu().numpy()
