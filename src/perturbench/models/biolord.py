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
    """Decode expression from the concatenated latent vectors of the cell, its perturbation and its covariates.

    The prediction is ``x_hat = dec([enc_x(x) + noise; enc_p(p); e_c])`` with one learned embedding ``e_c`` per level of
    each covariate. The loss is the squared error plus ``penalty_weight`` times the sum of squares of ``e_c`` over all
    cells of the batch. In training ``enc_x`` encodes the observed cell and adds noise, which limits how
    much of the perturbation it can encode; at prediction it encodes the control cell without noise. The model is the
    PerturBench paper's variant of biolord (Piran et al. 2024, doi:10.1038/s41587-023-02079-x).

    Parameters
    ----------
    context
        Names of the training data.
    n_layers, encoder_width, dropout
        Number of blocks, hidden width and dropout rate of both encoders and of the decoder.
    latent_dim
        Width of each latent vector: cell, perturbation, and level of a covariate.
    noise
        Standard deviation of the Gaussian noise that is added to the cell's latent vector in training.
    penalty_weight
        Weight of the penalty on the covariate embeddings. It belongs to a batch size, because the penalty is a sum over
        cells.
    softplus_output
        Whether a softplus makes the predictions positive.
    lr, wd
        Learning rate and weight decay of the Adam optimizer.
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
        """Return the decoded control cells, perturbations and covariates, ``(n_cells, n_genes)``."""
        return self._decode(self.cell_encoder(batch.matched_controls()), batch)

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return ``reconstruction + penalty_weight * penalty``, and its terms."""
        reconstruction, penalty = self.reconstruction(batch), self.penalty(batch)
        return {
            "loss": reconstruction + self.penalty_weight * penalty,
            "reconstruction": reconstruction,
            "penalty": penalty,
        }

    def validation_loss(self, batch: Batch) -> torch.Tensor:
        """Return the loss without the penalty, which grows with the number of cells in a batch."""
        return self.reconstruction(batch)

    def reconstruction(self, batch: Batch) -> torch.Tensor:
        """Return the squared error of the decoded cells, summed over genes and averaged over cells, a scalar."""
        observed = batch.observed()
        latent = self.cell_encoder(observed)
        if self.training:
            latent = latent + self.noise * torch.randn_like(latent)
        return squared_error(self._decode(latent, batch), observed)

    def penalty(self, batch: Batch) -> torch.Tensor:
        """Return the sum of squares of the covariate embeddings of all cells in the batch, a scalar."""
        total = batch.perturbations.new_zeros(())
        for key, embedding in zip(self.covariates, self.covariate_embeddings, strict=True):
            total = total + batch.covariates[key].sum(dim=0) @ embedding.square().sum(dim=1)
        return total

    def _decode(self, latent: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the expression decoded from the cells' latent vectors, ``(n_cells, n_genes)``."""
        embeddings = zip(self.covariates, self.covariate_embeddings, strict=True)
        parts = [latent, self.perturbation_encoder(batch.perturbations)]
        parts += [batch.covariates[key] @ embedding for key, embedding in embeddings]
        decoded = self.decoder(torch.cat(parts, dim=1))
        return F.softplus(decoded) if self.softplus_output else decoded
