"""Decoder-only model: it sees no expression at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from perturbench.errors import PerturbenchError
from perturbench.models.base import PerturbationModel
from perturbench.models.nn import MLP

if TYPE_CHECKING:
    from perturbench.data.encoding import Context
    from perturbench.data.types import Batch


class DecoderOnly(PerturbationModel):
    """Decode expression from perturbation and covariates alone, ``x_hat = dec([p; c])``.

    With covariates only, it predicts the same cell for every perturbation of a state: the reference for a fully
    collapsed model, whose rank metrics are 0.5.

    Parameters
    ----------
    context
        Names of the training data.
    n_layers, encoder_width, dropout
        Number of blocks, hidden width and dropout rate of the decoder.
    use_covariates, use_perturbations
        Whether the decoder sees the covariates, and whether it sees the perturbations.
    softplus_output
        Whether a softplus makes the predictions positive.
    lr, wd
        Learning rate and weight decay of the Adam optimizer.

    Raises
    ------
    PerturbenchError
        If the decoder has no input: neither is used, or only covariates are and the data has none.
    """

    allows_cuda_graphs = True

    def __init__(
        self,
        context: Context,
        n_layers: int = 2,
        encoder_width: int = 128,
        dropout: float | None = None,
        use_covariates: bool = True,
        use_perturbations: bool = True,
        softplus_output: bool = True,
        lr: float = 1e-3,
        wd: float = 1e-8,
    ) -> None:
        super().__init__(context, lr=lr, wd=wd)
        self.use_covariates, self.use_perturbations = use_covariates, use_perturbations
        self.softplus_output = softplus_output
        n_input = use_covariates * self.n_covariates + use_perturbations * self.n_perturbations
        if n_input == 0:
            raise PerturbenchError(
                f"decoder_only would have no input: use_covariates={use_covariates} with {self.n_covariates} covariate "
                f"levels, use_perturbations={use_perturbations}; enable at least one input that the data has."
            )
        self.decoder = MLP(n_input, encoder_width, self.n_genes, n_layers, dropout)

    def predict(self, batch: Batch) -> torch.Tensor:
        """Return the expression decoded from perturbations and covariates, ``(n_cells, n_genes)``."""
        inputs = []
        if self.use_perturbations:
            inputs.append(batch.perturbations)
        if self.use_covariates:
            inputs.append(self.covariate_matrix(batch))
        decoded = self.decoder(torch.cat(inputs, dim=1))
        return F.softplus(decoded) if self.softplus_output else decoded
