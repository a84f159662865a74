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
    """``softplus(x0 + W [p; c] + b)``: an effect per perturbation and gene, added to the control cell.

    Parameters
    ----------
    context
        Names of the training data.
    inject_covariates
        Whether covariates have an effect of their own.
    lr, wd
        Of Adam.
    """

    allows_cuda_graphs = True

    def __init__(self, context: Context, inject_covariates: bool = False, lr: float = 1e-3, wd: float = 1e-4) -> None:
        super().__init__(context, lr=lr, wd=wd)
        self.inject_covariates = inject_covariates
        n_input = self.n_perturbations + (self.n_covariates if inject_covariates else 0)
        self.effect = nn.Linear(n_input, self.n_genes)

    def predict(self, batch: Batch) -> torch.Tensor:
        """Return the controls plus the effects, positive."""
        inputs = [batch.perturbations]
        if self.inject_covariates:
            inputs.append(self.covariate_matrix(batch))
        return F.softplus(batch.matched_controls() + self._effects(torch.cat(inputs, dim=1), batch.groups))

    def _effects(self, inputs: torch.Tensor, groups: torch.Tensor | None) -> torch.Tensor:
        """Return the effect of each row; once per group where rows of a group are the same, as in counterfactuals."""
        if groups is None:
            return self.effect(inputs)
        distinct, row_of = torch.unique(groups, return_inverse=True)
        rows = inputs.new_empty(len(distinct), inputs.shape[1])
        rows[row_of] = inputs
        return self.effect(rows)[row_of]
