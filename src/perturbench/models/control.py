"""The null model: perturbations have no effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from perturbench.models.closed_form import ClosedFormModel

if TYPE_CHECKING:
    from perturbench.data.pseudobulk import Pseudobulk
    from perturbench.data.types import Batch


class Control(ClosedFormModel):
    """Predict each matched control cell unchanged."""

    def fit_pseudobulk(self, pseudobulk: Pseudobulk) -> None:
        """Do nothing, because the model has no parameters."""

    def effect(self, batch: Batch) -> torch.Tensor:
        """Return zeros, ``(n_cells, n_genes)``."""
        return torch.zeros_like(batch.matched_controls())
