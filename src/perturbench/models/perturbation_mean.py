"""The perturbation mean baseline: a perturbation has the same effect in every state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from perturbench.data.encoding import multi_hot
from perturbench.models.closed_form import ClosedFormModel

if TYPE_CHECKING:
    from perturbench.data.pseudobulk import Pseudobulk
    from perturbench.data.types import Batch


class PerturbationMean(ClosedFormModel):
    """Add the mean effect of the same perturbation, over the states that have it in training, to the control cell.

    A perturbation that the training data does not have, such as a held-out combination, gets the mean response of the
    state.
    """

    #: Multi-hot code of each training perturbation, ``(n_conditions, n_perturbations)``.
    conditions: torch.Tensor
    #: Mean effect of each training perturbation, ``(n_conditions, n_genes)``.
    effects: torch.Tensor
    #: Mean response of each state, ``(n_states, n_genes)``.
    shift: torch.Tensor

    def fit_pseudobulk(self, pseudobulk: Pseudobulk) -> None:
        """Store code and mean effect of each training perturbation, and the mean response of each state."""
        effects = pseudobulk.mean_effects()
        self.store_buffers(
            conditions=multi_hot(list(effects), self.training_record),  # type: ignore[arg-type]
            effects=np.array(list(effects.values())),
            shift=pseudobulk.mean_response(self.states),
        )

    def effect(self, batch: Batch) -> torch.Tensor:
        """Return the mean effect of each cell's perturbation, ``(n_cells, n_genes)``.

        A perturbation that the training data does not have gets the mean response of the cell's state.
        """
        # Two multi-hot codes are equal if they share as many ones as each of them has.
        n_shared = batch.perturbations @ self.conditions.T
        same = (n_shared == batch.perturbations.sum(dim=1, keepdim=True)) & (n_shared == self.conditions.sum(dim=1))
        known = same.any(dim=1, keepdim=True)
        position = same.to(torch.uint8).argmax(dim=1)
        return torch.where(known, self.effects[position], self.shift[self.state_codes(batch)])
