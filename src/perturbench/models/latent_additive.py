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
    """Cell and perturbation meet by addition in a latent space: ``softplus(dec(enc_x(x0, c) + enc_p(p), c))``.

    Parameters
    ----------
    context
        Names of the training data.
    n_layers, encoder_width, latent_dim, dropout
        Of the encoders and the decoder.
    inject_covariates_encoder, inject_covariates_decoder
        Whether covariates enter the cell's encoder, and the decoder.
    sparse_additive_mechanism
        Whether a mask that depends on the perturbation, drawn in training and averaged in prediction, multiplies
        ``enc_p(p)``.
    use_embeddings
        Whether the control cell's embedding stands for its expression.
    lr, wd
        Of Adam.
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
        use_embeddings: bool = False,
        lr: float = 1e-3,
        wd: float = 1e-8,
    ) -> None:
        super().__init__(context, lr=lr, wd=wd)
        self.inject_covariates_encoder = inject_covariates_encoder
        self.inject_covariates_decoder = inject_covariates_decoder
        self.use_embeddings = use_embeddings
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
        """Return the decoded sum of the control cell's and the perturbation's embeddings."""
        cell, covariates = batch.matched_controls(self.use_embeddings), self.covariate_matrix(batch)
        if self.inject_covariates_encoder:
            cell = torch.cat([cell, covariates], dim=1)
        latent = self.cell_encoder(cell) + self._perturbation(batch.perturbations)
        if self.inject_covariates_decoder:
            latent = torch.cat([latent, covariates], dim=1)
        return F.softplus(self.decoder(latent))

    def _perturbation(self, perturbations: torch.Tensor) -> torch.Tensor:
        """Return the embedding of each cell's perturbation, ``(n_cells, latent_dim)``."""
        embedding = self.perturbation_encoder(perturbations)
        if self.mask_encoder is None:
            return embedding
        return embedding * sample_mask(self.mask_encoder(perturbations), self.training)
