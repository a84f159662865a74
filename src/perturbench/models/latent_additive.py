"""Latent additive model ("LA")."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from perturbench.models.base import PerturbationModel
from perturbench.models.nn import MLP, sample_mask

if TYPE_CHECKING:
    from perturbench.data.encoding import Context
    from perturbench.data.types import Batch


class LatentAdditive(PerturbationModel):
    """Add the latent vectors of control cell and perturbation, then decode the sum.

    The prediction is ``softplus(dec(enc_x(x0, c) + enc_p(p), c))`` for the control cell ``x0``, the perturbation ``p``
    and the covariates ``c``.

    Parameters
    ----------
    context
        Names of the training data.
    n_layers, encoder_width, dropout
        Number of blocks, hidden width and dropout rate of the encoders and of the decoder.
    latent_dim
        Width of the latent vectors.
    inject_covariates_encoder, inject_covariates_decoder
        Whether the cell encoder sees the covariates, and whether the decoder does.
    sparse_additive_mechanism
        Whether to multiply ``enc_p(p)`` by a mask of zeros and ones that depends on the perturbation. The mask is drawn
        in training; at prediction its mean is used.
    softplus_output
        Whether a softplus makes the predictions positive.
    use_embeddings
        Whether the cell encoder sees the control cell's embedding instead of its expression.
    lr, wd
        Learning rate and weight decay of the Adam optimizer.
    """

    allows_cuda_graphs = True

    def __init__(
        self,
        context: Context,
        n_layers: int = 2,
        encoder_width: int = 128,
        latent_dim: int = 32,
        dropout: float | None = 0.1,
        inject_covariates_encoder: bool = False,
        inject_covariates_decoder: bool = False,
        sparse_additive_mechanism: bool = False,
        softplus_output: bool = True,
        use_embeddings: bool = False,
        lr: float = 1e-3,
        wd: float = 1e-8,
    ) -> None:
        super().__init__(context, lr=lr, wd=wd)
        self.inject_covariates_encoder = inject_covariates_encoder
        self.inject_covariates_decoder = inject_covariates_decoder
        self.softplus_output, self.use_embeddings = softplus_output, use_embeddings
        in_encoder = self.n_covariates if inject_covariates_encoder else 0
        in_decoder = self.n_covariates if inject_covariates_decoder else 0
        shape = (n_layers, dropout)
        self.cell_encoder = MLP(self.input_width(use_embeddings) + in_encoder, encoder_width, latent_dim, *shape)
        self.perturbation_encoder = MLP(self.n_perturbations, encoder_width, latent_dim, *shape)
        self.mask_encoder = (
            MLP(self.n_perturbations, encoder_width, latent_dim, *shape) if sparse_additive_mechanism else None
        )
        self.decoder = MLP(latent_dim + in_decoder, encoder_width, self.n_genes, *shape)

    def predict(self, batch: Batch) -> torch.Tensor:
        """Return the expression decoded from the sum of both latent vectors, ``(n_cells, n_genes)``."""
        cell, covariates = batch.matched_controls(self.use_embeddings), self.covariate_matrix(batch)
        if self.inject_covariates_encoder:
            cell = torch.cat([cell, covariates], dim=1)
        latent = self.cell_encoder(cell) + self._encode_perturbations(batch.perturbations)
        if self.inject_covariates_decoder:
            latent = torch.cat([latent, covariates], dim=1)
        decoded = self.decoder(latent)
        return F.softplus(decoded) if self.softplus_output else decoded

    def _encode_perturbations(self, perturbations: torch.Tensor) -> torch.Tensor:
        """Return the latent vector of each cell's perturbation, after its mask if any, ``(n_cells, latent_dim)``."""
        embedding = self.perturbation_encoder(perturbations)
        if self.mask_encoder is None:
            return embedding
        return embedding * sample_mask(self.mask_encoder(perturbations), self.training)
