"""The baseline to beat: every perturbation does what perturbations do on average."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perturbench.models.closed_form import ClosedFormModel

if TYPE_CHECKING:
    import torch

    from perturbench.data.pseudobulk import Pseudobulk
    from perturbench.data.types import Batch


class MeanResponse(ClosedFormModel):
    """Control + the mean over training perturbations of (pseudobulk - control) in the cell's state."""

    shift: torch.Tensor

    def fit_pseudobulk(self, pseudobulk: Pseudobulk) -> None:
        """Store the mean effect of each state; a state without a perturbation gets the mean over states."""
        self.learn(shift=pseudobulk.mean_response(self.states))

    def effect(self, batch: Batch) -> torch.Tensor:
        """Return the mean effect of the cells' states."""
        return self.shift[self.state_codes(batch)]
