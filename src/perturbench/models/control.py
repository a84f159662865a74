"""The null model: nothing happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from perturbench.models.closed_form import ClosedFormModel

if TYPE_CHECKING:
    from perturbench.data.pseudobulk import Pseudobulk
    from perturbench.data.types import Batch


class Control(ClosedFormModel):
    """Predict the matched control cells unchanged."""

    def fit_pseudobulk(self, pseudobulk: Pseudobulk) -> None:
        """Learn nothing."""

    def effect(self, batch: Batch) -> torch.Tensor:
        """Return zeros."""
        return torch.zeros_like(batch.matched_controls())
