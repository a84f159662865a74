"""The null model: nothing happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perturbench.models.base import controls_of
from perturbench.models.closed_form import ClosedFormModel

if TYPE_CHECKING:
    import torch

    from perturbench.data.encoding import Context
    from perturbench.data.types import Batch
    from perturbench.models.closed_form import Pseudobulk


class Control(ClosedFormModel):
    """Predict the matched control cells unchanged."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)

    def fit_pseudobulk(self, pseudobulk: Pseudobulk) -> None:
        """Learn nothing."""

    def predict(self, batch: Batch) -> torch.Tensor:
        """Return the controls."""
        return controls_of(batch)
