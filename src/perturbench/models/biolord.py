"""Disentangled autoencoder ("BioLord*")."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from perturbench.models.base import PerturbationModel
from perturbench.models.nn import MLP, squared_error

if TYPE_CHECKING:
    from perturbench.data.encoding import Context
    from perturbench.data.types import Batch


class BioLord(PerturbationModel):
    """A noisy latent cell, a perturbation and covariates, side by side, are decoded to expression.

    ``x_hat = dec([enc_x(x) + noise; enc_p(p); e_c])`` with a learned embedding ``e_c`` per level of each covariate; the
    loss is the squared error + ``penalty_weight`` * the sum of squares of the embeddings of the levels in the batch
    (Piran et al. 2024, doi:10.1038/s41587-023-02079-x; this variant is that of the PerturBench paper). At prediction
    ``enc_x`` sees the control cell, without noise.

    Parameters
    ----------
    context
        Names of the training data.
    n_layers, encoder_width, latent_dim, dropout
        Of the encoders and the decoder; the embedding of a level has ``latent_dim`` dimensions too.
    noise
        Standard deviation of what is added to the latent cell in training.
    penalty_weight
        Of the covariates' embeddings.
    softplus_output
        Whether predictions are made positive.
    lr, wd
        Of Adam.
    """

    allows_cuda_graphs = True

    def __init__(
        self,
        context: Context,
        n_layers: int = 1,
        encoder_width: int = 128,
        latent_dim: int = 32,
        dropout: float | None = 0.1,
        noise: float = 0.1,
        penalty_weight: float = 1.0,
        softplus_output: bool = True,
        lr: float = 1e-3,
        wd: float = 1e-8,
    ) -> None:
        super().__init__(context, lr=lr, wd=wd)
        self.noise, self.penalty_weight, self.softplus_output = noise, penalty_weight, softplus_output
        self.covariates = list(context["covariate_uniques"])
        self.cell_encoder = MLP(self.n_genes, encoder_width, latent_dim, n_layers, dropout)
        self.perturbation_encoder = MLP(self.n_perturbations, encoder_width, latent_dim, n_layers, dropout)
        self.covariate_embeddings = nn.ParameterList(
            nn.Parameter(torch.randn(len(levels), latent_dim)) for levels in context["covariate_uniques"].values()
        )
        n_decoded = latent_dim * (2 + len(self.covariates))
        self.decoder = MLP(n_decoded, encoder_width, self.n_genes, n_layers, dropout)

    def predict(self, batch: Batch) -> torch.Tensor:
        """Return the decoded control cells with their perturbation and covariates."""
        return self._decode(self.cell_encoder(batch.matched_controls()), batch)

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the squared error, summed over genes, mean over cells, plus the weighted penalty on the embeddings."""
        observed = batch.observed()
        cell = self.cell_encoder(observed)
        if self.training:
            cell = cell + self.noise * torch.randn_like(cell)
        reconstruction, penalty = squared_error(self._decode(cell, batch), observed), self.penalty(batch)
        return {
            "loss": reconstruction + self.penalty_weight * penalty,
            "reconstruction": reconstruction,
            "penalty": penalty,
        }

    def penalty(self, batch: Batch) -> torch.Tensor:
        """Return the sum of squares of the embeddings of the covariate levels that are in the batch, a scalar."""
        total = batch.perturbations.new_zeros(())
        for key, embedding in zip(self.covariates, self.covariate_embeddings, strict=True):
            present = batch.covariates[key].any(dim=0).to(embedding.dtype)
            total = total + present @ embedding.square().sum(dim=1)
        return total

    def _decode(self, cell: torch.Tensor, batch: Batch) -> torch.Tensor:
        levels = zip(self.covariates, self.covariate_embeddings, strict=True)
        parts = [cell, self.perturbation_encoder(batch.perturbations)]
        parts += [batch.covariates[key] @ embedding for key, embedding in levels]
        decoded = self.decoder(torch.cat(parts, dim=1))
        return F.softplus(decoded) if self.softplus_output else decoded
