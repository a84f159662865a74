"""The effects of single perturbations add up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from perturbench.models.closed_form import ClosedFormModel

if TYPE_CHECKING:
    from perturbench.data.pseudobulk import Pseudobulk
    from perturbench.data.types import Batch


class Additive(ClosedFormModel):
    """Control + the sum of the single perturbations' training effects, in log space.

    A single's effect is that in the cell's state; where training does not have it there, its mean over the states that
    have it; where training never has it alone, the mean response of the state.
    """

    effects: torch.Tensor
    shift: torch.Tensor

    def fit_pseudobulk(self, pseudobulk: Pseudobulk) -> None:
        """Store the effect of each single perturbation in each state, ``(n_states, n_perturbations, n_genes)``."""
        shift, anywhere = pseudobulk.mean_response(self.states), pseudobulk.mean_effects()
        effects = np.empty((len(self.states), self.n_perturbations, self.n_genes), dtype=np.float32)
        for row, state in enumerate(self.states):
            for column, single in enumerate(self.training_record["perturbation_uniques"]):
                otherwise = anywhere.get(single, shift[row])
                effects[row, column] = pseudobulk.effects.get((state, single), otherwise)
        self.learn(effects=effects, shift=shift)

    def effect(self, batch: Batch) -> torch.Tensor:
        """Return the sum of the effects; the mean response for a perturbation of which training knows nothing."""
        codes = self.state_codes(batch)
        added = self.shift[codes]
        for state in torch.unique(codes):
            rows = (codes == state) & batch.perturbations.any(dim=1)
            added[rows] = batch.perturbations[rows] @ self.effects[state]
        return added
