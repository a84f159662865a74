"""The mean response, the baseline to beat: every perturbation has the average effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perturbench.models.closed_form import ClosedFormModel

if TYPE_CHECKING:
    import torch

    from perturbench.data.pseudobulk import Pseudobulk
    from perturbench.data.types import Batch


class MeanResponse(ClosedFormModel):
    """Add the mean effect of the training perturbations in the cell's state to the control cell.

    The effect of a perturbation is its pseudobulk minus the pseudobulk of the controls, in log space.
    """

    #: Mean effect of each state, ``(n_states, n_genes)``.
    shift: torch.Tensor

    def fit_pseudobulk(self, pseudobulk: Pseudobulk) -> None:
        """Store the mean effect of each state; a state without perturbed cells gets the mean over states."""
        self.store_buffers(shift=pseudobulk.mean_response(self.states))

    def effect(self, batch: Batch) -> torch.Tensor:
        """Return the mean effect of each cell's state, ``(n_cells, n_genes)``."""
        return self.shift[self.state_codes(batch)]
