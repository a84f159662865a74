"""The additive baseline: the effects of single perturbations add up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from perturbench.models.closed_form import ClosedFormModel

if TYPE_CHECKING:
    from perturbench.data.pseudobulk import Pseudobulk
    from perturbench.data.types import Batch


class Additive(ClosedFormModel):
    """Add the effects of a cell's single perturbations to its control cell, in log space.

    The effect of a single perturbation is measured in the training cells of the same state. If that state does not have
    it, the effect is the mean over the states that do. If the training cells never have it alone, the effect is the
    mean response of the state.
    """

    #: Effect of each single perturbation in each state, ``(n_states, n_perturbations, n_genes)``.
    effects: torch.Tensor
    #: Mean response of each state, ``(n_states, n_genes)``.
    shift: torch.Tensor

    def fit_pseudobulk(self, pseudobulk: Pseudobulk) -> None:
        """Store the effect of each single perturbation in each state, and the mean response of each state."""
        shift, mean_effects = pseudobulk.mean_response(self.states), pseudobulk.mean_effects()
        effects = np.empty((len(self.states), self.n_perturbations, self.n_genes), dtype=np.float32)
        for row, state in enumerate(self.states):
            for column, single in enumerate(self.training_record["perturbation_uniques"]):
                fallback = mean_effects.get(single, shift[row])
                effects[row, column] = pseudobulk.effects.get((state, single), fallback)
        self.store_buffers(effects=effects, shift=shift)

    def effect(self, batch: Batch) -> torch.Tensor:
        """Return the sum of the effects of each cell's single perturbations, ``(n_cells, n_genes)``.

        Cells whose perturbations are all absent from the training data get the mean response of their state.
        """
        codes = self.state_codes(batch)
        total = self.shift[codes]
        for state in torch.unique(codes):
            rows = (codes == state) & batch.perturbations.any(dim=1)
            total[rows] = batch.perturbations[rows] @ self.effects[state]
        return total
