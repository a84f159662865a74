"""The baseline to beat: every perturbation does what perturbations do on average."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from perturbench.models.base import controls_of
from perturbench.models.closed_form import ClosedFormModel

if TYPE_CHECKING:
    from perturbench.data.encoding import Context
    from perturbench.data.types import Batch
    from perturbench.models.closed_form import Pseudobulk


class MeanResponse(ClosedFormModel):
    """Control + the mean over training perturbations of (pseudobulk - control) in the cell's state."""

    shift: torch.Tensor

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        n_states = int(np.prod([len(levels) for levels in context["covariate_uniques"].values()], dtype=int))
        self.register_buffer("shift", torch.zeros(n_states, self.n_genes))

    def fit_pseudobulk(self, pseudobulk: Pseudobulk) -> None:
        """Store the mean effect of each state; a state without a perturbation gets the mean over states."""
        trained = sorted({state for state, _ in pseudobulk.pairs})
        effects = {state: pseudobulk.effects(state).mean(axis=0) for state in trained}
        self.shift[:] = torch.from_numpy(np.mean(list(effects.values()), axis=0))
        levels = self.training_record["covariate_uniques"]
        for state, effect in effects.items():
            code = 0
            for value, (key, names) in zip(state, levels.items(), strict=True):
                code = code * len(names) + levels[key].index(value)
            self.shift[code] = torch.from_numpy(effect)

    def predict(self, batch: Batch) -> torch.Tensor:
        """Return the controls, shifted."""
        code = torch.zeros(len(batch.perturbations), dtype=torch.long, device=self.shift.device)
        for one_hot in batch.covariates.values():
            code = code * one_hot.shape[1] + one_hot.argmax(dim=1)
        if batch.groups is not None:  # counterfactuals are all perturbed, also by what training never saw
            return controls_of(batch) + self.shift[code]
        return controls_of(batch) + self.shift[code] * batch.perturbations.any(dim=1, keepdim=True)
