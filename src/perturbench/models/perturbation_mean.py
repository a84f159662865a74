"""A perturbation does in one state what it does in the others."""

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
    """Control + the effect of the same perturbation, mean over the states that have it in training.

    A perturbation that training does not have, such as a held-out combination, gets the mean response of the state.
    """

    conditions: torch.Tensor
    effects: torch.Tensor
    shift: torch.Tensor

    def fit_pseudobulk(self, pseudobulk: Pseudobulk) -> None:
        """Store the multi-hot code and the mean effect of each training perturbation."""
        effects = pseudobulk.mean_effects()
        self.learn(
            conditions=multi_hot(list(effects), self.training_record),  # type: ignore[arg-type]
            effects=np.array(list(effects.values())),
            shift=pseudobulk.mean_response(self.states),
        )

    def effect(self, batch: Batch) -> torch.Tensor:
        """Return the effect of the training perturbation with the same code, if there is one."""
        shared = batch.perturbations @ self.conditions.T
        same = (shared == batch.perturbations.sum(dim=1, keepdim=True)) & (shared == self.conditions.sum(dim=1))
        known = same.any(dim=1, keepdim=True)
        position = same.to(torch.uint8).argmax(dim=1)
        return torch.where(known, self.effects[position], self.shift[self.state_codes(batch)])
