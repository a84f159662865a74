"""Latent additive model ("LA")."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from perturbench.models.base import PerturbationModel, controls_of
from perturbench.models.nn import MLP

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
    lr, wd
        Of Adam.
    """

    def __init__(
        self,
        context: Context,
        n_layers: int = 2,
        encoder_width: int = 128,
        latent_dim: int = 32,
        dropout: float | None = None,
        inject_covariates_encoder: bool = False,
        inject_covariates_decoder: bool = False,
        lr: float = 1e-3,
        wd: float = 1e-8,
    ) -> None:
        super().__init__(context, lr=lr, wd=wd)
        self.inject_covariates_encoder = inject_covariates_encoder
        self.inject_covariates_decoder = inject_covariates_decoder
        in_encoder = self.n_covariates if inject_covariates_encoder else 0
        in_decoder = self.n_covariates if inject_covariates_decoder else 0
        shape = (n_layers, dropout)
        self.cell_encoder = MLP(self.n_genes + in_encoder, encoder_width, latent_dim, *shape)
        self.perturbation_encoder = MLP(self.n_perturbations, encoder_width, latent_dim, *shape)
        self.decoder = MLP(latent_dim + in_decoder, encoder_width, self.n_genes, *shape)

    def predict(self, batch: Batch) -> torch.Tensor:
        """Return the decoded sum of the control cell's and the perturbation's embeddings."""
        cell, covariates = controls_of(batch), self.covariate_matrix(batch)
        if self.inject_covariates_encoder:
            cell = torch.cat([cell, covariates], dim=1)
        latent = self.cell_encoder(cell) + self.perturbation_encoder(batch.perturbations)
        if self.inject_covariates_decoder:
            latent = torch.cat([latent, covariates], dim=1)
        return F.softplus(self.decoder(latent))
