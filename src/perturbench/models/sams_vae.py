"""Sparse additive mechanism shift VAE ("SAMS-VAE*"), and its simplified variant ("S")."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from perturbench.errors import PerturbenchError
from perturbench.models.base import PerturbationModel
from perturbench.models.nn import MLP, Gaussian, GaussianEncoder, bernoulli_kl, sample_mask, squared_error

if TYPE_CHECKING:
    from perturbench.data.encoding import Context
    from perturbench.data.types import Batch


class SAMSVAE(PerturbationModel):
    """Shift a few dimensions of a cell's latent vector per perturbation, in a variational autoencoder.

    Each perturbation t has a mask ``m_t ~ Bernoulli`` and an embedding ``e_t ~ N``, shared by all cells. The latent
    vector of a cell is ``z = z_basal + z_p`` with the shift ``z_p = sum_t m_t * e_t`` over its perturbations, and
    ``x_hat = dec(z, c)`` (Bereket & Karaletsos 2023, arXiv 2311.02794, in the variant of the PerturBench paper).

    Let a batch have ``B`` cells, ``B_t`` of them with perturbation t, and let ``n_t`` training cells have it. The loss
    is then::

        mean over cells of (squared error + KL(z_basal) + sum over the cell's t of KL(e_t) / n_t)
            + sum over t of (B_t / n_t) KL(m_t)

    so that over one epoch each mask and embedding counts once, although many cells share it. At prediction the encoder
    sees the control cell, which has no shift.

    Parameters
    ----------
    context
        Names of the training data.
    latent_dim
        Width of the latent vectors, the masks and the embeddings of perturbations.
    n_layers_encoder_x, n_layers_decoder
        Number of blocks of the cell encoder and of the decoder.
    n_layers_encoder_e
        Number of blocks of the network that encodes perturbations.
    hidden_dim_x, hidden_dim_cond
        Hidden width of cell encoder and decoder, and of the network that encodes perturbations.
    dropout
        Dropout rate of all networks.
    inject_covariates_encoder, inject_covariates_decoder
        Whether the cell encoder sees the covariates, and whether the decoder does.
    sparse_additive_mechanism
        Whether perturbations have masks; the simplified variant "S" has none.
    embedding_distribution
        Whether the embeddings of perturbations are distributions; in "S" they are plain vectors.
    mask_prior_probability
        Prior probability that a perturbation shifts a latent dimension.
    mean_field_encoding
        Whether the encoders are independent: the cell encoder does not see ``z_p``, and the network that encodes
        perturbations does not see the masks.
    generative_counterfactual
        Whether ``z_basal`` comes from its prior at prediction, instead of from the control cell.
    sample_at_prediction
        Whether to draw ``z_basal`` at prediction instead of taking its mean.
    softplus_output
        Whether a softplus makes the predictions positive.
    lr, wd
        Learning rate and weight decay of the Adam optimizer.

    Raises
    ------
    PerturbenchError
        If ``mask_prior_probability`` is not between 0 and 1.
    """

    allows_cuda_graphs = True
    #: Number of training cells with each single perturbation, ``(n_perturbations,)``.
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
            raise PerturbenchError(
                f"mask_prior_probability is {mask_prior_probability}; choose a value above 0 and below 1, such as 0.01."
            )
        self.inject_covariates_encoder = inject_covariates_encoder
        self.inject_covariates_decoder = inject_covariates_decoder
        self.embedding_distribution, self.mean_field_encoding = embedding_distribution, mean_field_encoding
        self.mask_prior_probability, self.softplus_output = mask_prior_probability, softplus_output
        self.generative_counterfactual, self.sample_at_prediction = generative_counterfactual, sample_at_prediction
        self.latent_dim = latent_dim

        n_cell_extras = self.n_covariates * inject_covariates_encoder + latent_dim * (not mean_field_encoding)
        n_embedding_extras = latent_dim * (sparse_additive_mechanism and not mean_field_encoding)
        n_decoder_extras = self.n_covariates * inject_covariates_decoder
        self.cell_encoder = GaussianEncoder(
            self.n_genes + n_cell_extras, hidden_dim_x, latent_dim, n_layers_encoder_x, dropout
        )
        encoder = GaussianEncoder if embedding_distribution else MLP
        self.embedding_encoder = encoder(
            self.n_perturbations + n_embedding_extras, hidden_dim_cond, latent_dim, n_layers_encoder_e, dropout
        )
        self.decoder = MLP(latent_dim + n_decoder_extras, hidden_dim_x, self.n_genes, n_layers_decoder, dropout)
        shape = (self.n_perturbations, latent_dim)
        # Logits of 0: a mask starts with probability 0.5 in every dimension.
        self.mask_logits = nn.Parameter(torch.zeros(shape)) if sparse_additive_mechanism else None
        self.register_buffer("n_training_cells", torch.ones(self.n_perturbations))

    def on_train_start(self) -> None:
        """Count the training cells of each single perturbation, which weight its KL divergences."""
        dataset = self.trainer.train_dataloader.dataset  # type: ignore[union-attr]
        self.n_training_cells.copy_(dataset.perturbation_counts().clamp(min=1))

    def predict(self, batch: Batch) -> torch.Tensor:
        """Return the control cells, encoded, shifted by their perturbations, and decoded, ``(n_cells, n_genes)``."""
        mask, embeddings = self._encode_perturbations()
        controls = batch.matched_controls()
        if self.generative_counterfactual:
            zeros = controls.new_zeros(len(controls), self.latent_dim)
            posterior = Gaussian(zeros, zeros)  # the prior, N(0, 1)
        else:
            posterior = self._encode(controls, controls.new_zeros(len(controls), self.latent_dim), batch)
        shift = batch.perturbations @ (mask * embeddings.mean)
        return self._decode(posterior.draw(self.sample_at_prediction) + shift, batch)

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the negative evidence lower bound of a batch, as in the class description, and its terms."""
        mask, embeddings = self._encode_perturbations()
        drawn = embeddings.draw(self.training and self.embedding_distribution)
        shift = batch.perturbations @ (mask * drawn)
        observed = batch.observed()
        posterior = self._encode(observed, shift, batch)
        decoded = self._decode(posterior.draw(self.training) + shift, batch)
        reconstruction, kl_cell = squared_error(decoded, observed), posterior.kl().mean()
        kl_perturbation = self.perturbation_kl(batch, embeddings)
        return {
            "loss": reconstruction + kl_cell + kl_perturbation,
            "reconstruction": reconstruction,
            "kl_cell": kl_cell,
            "kl_perturbation": kl_perturbation,
        }

    def perturbation_kl(self, batch: Batch, embeddings: Gaussian) -> torch.Tensor:
        """Return the weighted KL divergences of embeddings and masks from their priors, a scalar."""
        # B_t / n_t: the share of a perturbation's training cells in this batch, which sums to 1 over an epoch.
        share = batch.perturbations.sum(dim=0) / self.n_training_cells
        kl = share.new_zeros(())
        if self.embedding_distribution:
            kl = kl + (share * embeddings.kl()).sum() / len(batch.perturbations)
        if self.mask_logits is not None:
            kl = kl + (share * bernoulli_kl(self.mask_logits, self.mask_prior_probability).sum(dim=1)).sum()
        return kl

    def _encode_perturbations(self) -> tuple[torch.Tensor, Gaussian]:
        """Return the mask and the embedding of every single perturbation, ``(n_perturbations, latent_dim)`` each.

        Without masks, the mask is all ones; a plain embedding is the mean of a Gaussian whose variance is not used.
        """
        inputs = identity = torch.eye(self.n_perturbations, device=self.device)
        mask = identity.new_ones(self.n_perturbations, self.latent_dim)
        if self.mask_logits is not None:
            mask = sample_mask(self.mask_logits, self.training)
            inputs = identity if self.mean_field_encoding else torch.cat([identity, mask], dim=1)
        encoded = self.embedding_encoder(inputs)
        return mask, encoded if isinstance(encoded, Gaussian) else Gaussian(encoded, torch.zeros_like(encoded))

    def _encode(self, expression: torch.Tensor, shift: torch.Tensor, batch: Batch) -> Gaussian:
        """Return the posterior of ``z_basal`` of each cell, given its expression and shift."""
        inputs = [expression]
        if self.inject_covariates_encoder:
            inputs.append(self.covariate_matrix(batch))
        if not self.mean_field_encoding:
            inputs.append(shift)
        return self.cell_encoder(torch.cat(inputs, dim=1))

    def _decode(self, latent: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the expression decoded from the cells' latent vectors, ``(n_cells, n_genes)``."""
        if self.inject_covariates_decoder:
            latent = torch.cat([latent, self.covariate_matrix(batch)], dim=1)
        decoded = self.decoder(latent)
        return F.softplus(decoded) if self.softplus_output else decoded
