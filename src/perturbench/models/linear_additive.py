"""Linear additive model ("Linear")."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from perturbench.models.base import PerturbationModel

if TYPE_CHECKING:
    from perturbench.data.encoding import Context
    from perturbench.data.types import Batch


class LinearAdditive(PerturbationModel):
    """Add one learned effect per perturbation and gene to the control cell: ``softplus(x0 + W [p; c] + b)``.

    Parameters
    ----------
    context
        Names of the training data.
    inject_covariates
        Whether each level of a covariate has a learned effect too.
    lr, wd
        Learning rate and weight decay of the Adam optimizer.
    """

    allows_cuda_graphs = True

    def __init__(self, context: Context, inject_covariates: bool = False, lr: float = 1e-3, wd: float = 1e-4) -> None:
        super().__init__(context, lr=lr, wd=wd)
        self.inject_covariates = inject_covariates
        n_input = self.n_perturbations + (self.n_covariates if inject_covariates else 0)
        self.effect = nn.Linear(n_input, self.n_genes)

    def predict(self, batch: Batch) -> torch.Tensor:
        """Return the control cells plus the effects, made positive, ``(n_cells, n_genes)``."""
        inputs = [batch.perturbations]
        if self.inject_covariates:
            inputs.append(self.covariate_matrix(batch))
        return F.softplus(batch.matched_controls() + self._effects(torch.cat(inputs, dim=1), batch.groups))

    def _effects(self, inputs: torch.Tensor, groups: torch.Tensor | None) -> torch.Tensor:
        """Return the effect of each row of ``inputs``, ``(n_cells, n_genes)``.

        In a counterfactual batch all rows of a group are the same, so the effect is computed once per group.
        """
        if groups is None:
            return self.effect(inputs)
        distinct, group_of_row = torch.unique(groups, return_inverse=True)
        group_inputs = inputs.new_empty(len(distinct), inputs.shape[1])
        group_inputs[group_of_row] = inputs
        return self.effect(group_inputs)[group_of_row]
