"""Sparse additive mechanism shift VAE ("SAMS-VAE*"), and its simplified variant ("S")."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from perturbench.models.base import PerturbationModel
from perturbench.models.nn import MLP, Gaussian, GaussianEncoder, bernoulli_kl, sample_mask, squared_error

if TYPE_CHECKING:
    from perturbench.data.encoding import Context
    from perturbench.data.types import Batch


class SAMSVAE(PerturbationModel):
    """A variational autoencoder in which each perturbation shifts a few dimensions of the latent cell.

    A perturbation t has a mask ``m_t ~ Bernoulli`` and an embedding ``e_t ~ N``, the same for all cells; a cell's shift
    is ``z_p = sum_t m_t * e_t`` over its perturbations, ``z = z_basal + z_p`` and ``x_hat = dec(z, c)`` (Bereket &
    Karaletsos 2023, arXiv 2311.02794; this variant is that of the PerturBench paper). With ``B`` cells in a batch,
    ``B_t`` of them and ``n_t`` training cells with perturbation t, the loss is::

        mean over cells of (squared error + KL(z_basal) + sum over the cell's t of KL(e_t) / n_t)
            + sum over t of (B_t / n_t) KL(m_t)

    At prediction the encoder sees the control cell, which has no shift.

    Parameters
    ----------
    context
        Names of the training data.
    latent_dim, dropout
        Of the autoencoder and the perturbations.
    n_layers_encoder_x, n_layers_decoder, hidden_dim_x
        Of the autoencoder.
    n_layers_encoder_e, hidden_dim_cond
        Of the network that gives the embeddings of perturbations.
    inject_covariates_encoder, inject_covariates_decoder
        Whether covariates enter the autoencoder's two halves.
    sparse_additive_mechanism
        Whether there is a mask; "S" has none.
    embedding_distribution
        Whether embeddings of perturbations are distributions; in "S" they are plain vectors.
    mask_prior_probability
        Prior probability that a perturbation shifts a dimension.
    mean_field_encoding
        Whether the cell's encoder is not told ``z_p``, nor the embedding's encoder the mask.
    generative_counterfactual
        At prediction, take ``z_basal`` from its prior instead of the control cell.
    sample_at_prediction
        Draw ``z_basal`` at prediction, instead of taking its mean.
    softplus_output
        Whether predictions are made positive.
    lr, wd
        Of Adam.
    """

    allows_cuda_graphs = True
    n_training_cells: torch.Tensor

    def __init__(
        self,
        context: Context,
        latent_dim: int = 32,
        n_layers_encoder_x: int = 1,
        n_layers_encoder_e: int = 1,
        n_layers_decoder: int = 1,
        hidden_dim_x: int = 128,
        hidden_dim_cond: int = 64,
        dropout: float | None = 0.1,
        inject_covariates_encoder: bool = False,
        inject_covariates_decoder: bool = False,
        sparse_additive_mechanism: bool = True,
        embedding_distribution: bool = True,
        mask_prior_probability: float = 0.01,
        mean_field_encoding: bool = False,
        generative_counterfactual: bool = False,
        sample_at_prediction: bool = False,
        softplus_output: bool = True,
        lr: float = 1e-3,
        wd: float = 1e-8,
    ) -> None:
        super().__init__(context, lr=lr, wd=wd)
        if not 0 < mask_prior_probability < 1:
            raise ValueError(f"mask_prior_probability is {mask_prior_probability}; it must be between 0 and 1.")
        self.inject_covariates_encoder = inject_covariates_encoder
        self.inject_covariates_decoder = inject_covariates_decoder
        self.embedding_distribution, self.mean_field_encoding = embedding_distribution, mean_field_encoding
        self.mask_prior_probability, self.softplus_output = mask_prior_probability, softplus_output
        self.generative_counterfactual, self.sample_at_prediction = generative_counterfactual, sample_at_prediction
        self.latent_dim = latent_dim

        in_cell = self.n_covariates * inject_covariates_encoder + latent_dim * (not mean_field_encoding)
        in_embedding = latent_dim * (sparse_additive_mechanism and not mean_field_encoding)
        in_decoder = self.n_covariates * inject_covariates_decoder
        self.cell_encoder = GaussianEncoder(
            self.n_genes + in_cell, hidden_dim_x, latent_dim, n_layers_encoder_x, dropout
        )
        encoder = GaussianEncoder if embedding_distribution else MLP
        self.embedding_encoder = encoder(
            self.n_perturbations + in_embedding, hidden_dim_cond, latent_dim, n_layers_encoder_e, dropout
        )
        self.decoder = MLP(latent_dim + in_decoder, hidden_dim_x, self.n_genes, n_layers_decoder, dropout)
        shape = (self.n_perturbations, latent_dim)
        self.mask_logits = nn.Parameter(torch.zeros(shape)) if sparse_additive_mechanism else None
        self.register_buffer("n_training_cells", torch.ones(self.n_perturbations))

    def on_train_start(self) -> None:
        """Count the training cells of each perturbation."""
        dataset = self.trainer.train_dataloader.dataset  # type: ignore[union-attr]
        self.n_training_cells.copy_(dataset.perturbation_counts().clamp(min=1))

    def predict(self, batch: Batch) -> torch.Tensor:
        """Return the decoded control cells, shifted by their perturbations."""
        mask, embeddings = self._perturbations()
        controls = batch.matched_controls()
        if self.generative_counterfactual:
            zeros = controls.new_zeros(len(controls), self.latent_dim)
            cell = Gaussian(zeros, zeros)
        else:
            cell = self._encode(controls, controls.new_zeros(len(controls), self.latent_dim), batch)
        shift = batch.perturbations @ (mask * embeddings.mean)
        return self._decode(cell.draw(self.sample_at_prediction) + shift, batch)

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the negative evidence lower bound of a batch, see the class, and its terms."""
        mask, embeddings = self._perturbations()
        drawn = embeddings.draw(self.training and self.embedding_distribution)
        shift = batch.perturbations @ (mask * drawn)
        observed = batch.observed()
        cell = self._encode(observed, shift, batch)
        decoded = self._decode(cell.draw(self.training) + shift, batch)
        reconstruction, kl_cell = squared_error(decoded, observed), cell.kl().mean()
        kl_perturbation = self.kl_of_perturbations(batch, embeddings)
        return {
            "loss": reconstruction + kl_cell + kl_perturbation,
            "reconstruction": reconstruction,
            "kl_cell": kl_cell,
            "kl_perturbation": kl_perturbation,
        }

    def kl_of_perturbations(self, batch: Batch, embeddings: Gaussian) -> torch.Tensor:
        """Return the weighted KL divergences of embeddings and masks from their priors, a scalar."""
        share = batch.perturbations.sum(dim=0) / self.n_training_cells
        kl = share.new_zeros(())
        if self.embedding_distribution:
            kl = kl + (share * embeddings.kl()).sum() / len(batch.perturbations)
        if self.mask_logits is not None:
            kl = kl + (share * bernoulli_kl(self.mask_logits, self.mask_prior_probability).sum(dim=1)).sum()
        return kl

    def _perturbations(self) -> tuple[torch.Tensor, Gaussian]:
        """Return the mask and the embedding of every perturbation, ``(n_perturbations, latent_dim)``."""
        told = identity = torch.eye(self.n_perturbations, device=self.device)
        mask = identity.new_ones(self.n_perturbations, self.latent_dim)
        if self.mask_logits is not None:
            mask = sample_mask(self.mask_logits, self.training)
            told = identity if self.mean_field_encoding else torch.cat([identity, mask], dim=1)
        encoded = self.embedding_encoder(told)
        return mask, encoded if isinstance(encoded, Gaussian) else Gaussian(encoded, torch.zeros_like(encoded))

    def _encode(self, expression: torch.Tensor, shift: torch.Tensor, batch: Batch) -> Gaussian:
        inputs = [expression]
        if self.inject_covariates_encoder:
            inputs.append(self.covariate_matrix(batch))
        if not self.mean_field_encoding:
            inputs.append(shift)
        return self.cell_encoder(torch.cat(inputs, dim=1))

    def _decode(self, latent: torch.Tensor, batch: Batch) -> torch.Tensor:
        if self.inject_covariates_decoder:
            latent = torch.cat([latent, self.covariate_matrix(batch)], dim=1)
        decoded = self.decoder(latent)
        return F.softplus(decoded) if self.softplus_output else decoded
