"""Sparse additive mechanism shift VAE ("SAMS-VAE*"), and its simplified variant ("S")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from perturbench.errors import PerturbenchError
from perturbench.models.base import PerturbationModel
from perturbench.models.nn import MLP, Gaussian, GaussianEncoder, bernoulli_kl, sample_mask, squared_error

if TYPE_CHECKING:
    from perturbench.data.encoding import Context
    from perturbench.data.types import Batch


#: Log odds of a shift in every latent dimension before training, a probability of 0.27.
MASK_LOGIT_AT_START = -1.0


class SAMSVAE(PerturbationModel):
    """Shift a few dimensions of a cell's latent vector per perturbation, in a variational autoencoder.

    Each perturbation t has a mask ``m_t ~ Bernoulli`` and an embedding ``e_t ~ N``, shared by all cells. The latent
    vector of a cell is ``z = z_basal + z_p`` with the shift ``z_p = sum_t m_t * e_t`` over its perturbations, and
    ``x_hat = dec(z, c)`` (Bereket & Karaletsos 2023, arXiv 2311.02794, in the variant of the PerturBench paper).

    Let ``n_t`` training cells have perturbation t. The loss of a batch is then::

        mean over cells of (squared error + KL(z_basal) + sum over the cell's t of (KL(e_t) + KL(m_t)) / n_t)

    so that over one epoch each mask and embedding counts once, although many cells share it. At prediction the encoder
    sees the control cell.

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
    hidden_dim_x
        Hidden width of cell encoder and decoder.
    hidden_dim_cond
        Hidden width of the network that encodes perturbations; with ``None`` it is ``hidden_dim_x``.
    dropout
        Dropout rate of the decoder.
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
    embedding_sees_combination
        Whether the network that encodes a perturbation sees all perturbations of the cell, as in the published code.
        Otherwise it sees that perturbation alone, and a combination shifts a cell by the sum of its singles' shifts.
    encoder_sees_shift
        Whether the cell encoder sees the shift ``z_p`` of the requested perturbation at prediction, as it does in
        training; otherwise it sees zeros, the shift of the control cell.
    generative_counterfactual
        Whether ``z_basal`` comes from its prior at prediction, instead of from the control cell.
    sample_at_prediction
        Whether to draw ``z_basal``, masks and embeddings at prediction instead of taking their means.
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
        hidden_dim_cond: int | None = None,
        dropout: float | None = 0.1,
        inject_covariates_encoder: bool = False,
        inject_covariates_decoder: bool = False,
        sparse_additive_mechanism: bool = True,
        embedding_distribution: bool = True,
        mask_prior_probability: float = 0.01,
        mean_field_encoding: bool = False,
        embedding_sees_combination: bool = True,
        encoder_sees_shift: bool = True,
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
        self.latent_dim, self.encoder_sees_shift = latent_dim, encoder_sees_shift
        self.embedding_sees_combination = embedding_sees_combination
        self._most_singles: int | None = None

        n_cell_extras = self.n_covariates * inject_covariates_encoder + latent_dim * (not mean_field_encoding)
        n_embedding_extras = latent_dim * (sparse_additive_mechanism and not mean_field_encoding)
        n_decoder_extras = self.n_covariates * inject_covariates_decoder
        n_cell, n_embedding = self.n_genes + n_cell_extras, self.n_perturbations + n_embedding_extras
        width = hidden_dim_cond or hidden_dim_x
        body = MLP(n_cell, hidden_dim_x, hidden_dim_x, n_layers_encoder_x)
        self.cell_encoder = GaussianEncoder(body, hidden_dim_x, latent_dim)
        body = MLP(n_embedding, width, width, n_layers_encoder_e)
        self.embedding_encoder = (
            GaussianEncoder(body, width, latent_dim)
            if embedding_distribution
            else nn.Sequential(body, nn.Linear(width, latent_dim))
        )
        self.decoder = MLP(latent_dim + n_decoder_extras, hidden_dim_x, self.n_genes, n_layers_decoder, dropout)
        shape = (self.n_perturbations, latent_dim)
        self.mask_logits = nn.Parameter(torch.full(shape, MASK_LOGIT_AT_START)) if sparse_additive_mechanism else None
        self.register_buffer("n_training_cells", torch.ones(self.n_perturbations))

    def on_train_start(self) -> None:
        """Count the training cells of each single perturbation, and the perturbations that a cell has at most."""
        loaders: list[Any] = [self.trainer.train_dataloader, self.trainer.val_dataloaders]
        datasets = [loader.dataset for loader in loaders if loader is not None]  # validation can be left out
        self.n_training_cells.copy_(datasets[0].perturbation_counts().clamp(min=1))
        # Known here, the number need not be read from the device in every step.
        self._most_singles = max(dataset.most_singles() for dataset in datasets)

    def on_train_end(self) -> None:
        """Forget the number of perturbations per cell, because other cells may have more."""
        self._most_singles = None

    def predict(self, batch: Batch) -> torch.Tensor:
        """Return the control cells, encoded, shifted by their perturbations, and decoded, ``(n_cells, n_genes)``."""
        shift, _, _ = self._shift(batch.perturbations, self.sample_at_prediction)
        controls = batch.matched_controls()
        if self.generative_counterfactual:
            zeros = controls.new_zeros(len(controls), self.latent_dim)
            posterior = Gaussian(zeros, zeros)  # the prior, N(0, 1)
        else:
            posterior = self._encode(controls, shift if self.encoder_sees_shift else torch.zeros_like(shift), batch)
        return self._decode(posterior.draw(self.sample_at_prediction) + shift, batch)

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the negative evidence lower bound of a batch, as in the class description, and its terms."""
        shift, kl_embedding, kl_mask = self._shift(batch.perturbations, self.training, self._most_singles)
        observed = batch.observed()
        posterior = self._encode(observed, shift, batch)
        decoded = self._decode(posterior.draw(self.training) + shift, batch)
        terms = {
            "reconstruction": squared_error(decoded, observed),
            "kl_cell": posterior.kl().mean(),
            "kl_embedding": kl_embedding.mean(),
            "kl_mask": kl_mask.mean(),
        }
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}

    def _shift(
        self, perturbations: torch.Tensor, random: bool, most_singles: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return each cell's shift ``z_p``, ``(n_cells, latent_dim)``, and the weighted KL of its embeddings and masks.

        Masks and embeddings are drawn if ``random``; otherwise they are their means. ``most_singles`` is the largest
        number of perturbations per cell; if it is not given, it is read from the device.
        """
        mask = perturbations.new_ones(self.n_perturbations, self.latent_dim)
        kl_mask = perturbations.new_zeros(self.n_perturbations)
        if self.mask_logits is not None:
            mask = sample_mask(self.mask_logits, random)
            kl_mask = bernoulli_kl(self.mask_logits, self.mask_prior_probability).sum(dim=1)
        if self.embedding_sees_combination:
            shift, kl_embedding = self._shift_of_combination(perturbations, mask, random, most_singles)
        else:
            shift, kl_embedding = self._shift_of_singles(perturbations, mask, random)
        return shift, kl_embedding, perturbations @ (kl_mask / self.n_training_cells)

    def _shift_of_singles(
        self, perturbations: torch.Tensor, mask: torch.Tensor, random: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return shift and KL of the embeddings, where each perturbation has one embedding for all cells."""
        embeddings, kl = self._embed(torch.eye(self.n_perturbations, device=mask.device), mask, random)
        return perturbations @ (mask * embeddings), perturbations @ (kl / self.n_training_cells)

    def _shift_of_combination(
        self, perturbations: torch.Tensor, mask: torch.Tensor, random: bool, most_singles: int | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return shift and KL of the embeddings, which depend on all perturbations of a cell."""
        n_singles = most_singles or max(1, int(perturbations.sum(dim=1).max()))
        present, singles = perturbations.topk(n_singles, dim=1)
        masks = mask[singles]  # (n_cells, n_singles, latent_dim); rows that are not present are weighted with 0
        repeated = perturbations.repeat_interleave(n_singles, dim=0)
        embeddings, kl = self._embed(repeated, masks.flatten(end_dim=1), random)
        shift = (present[:, :, None] * masks * embeddings.view_as(masks)).sum(dim=1)
        n_cells = (perturbations @ self.n_training_cells).clamp(min=1)  # control cells have no perturbation
        return shift, (present * kl.view_as(present)).sum(dim=1) / n_cells

    def _embed(
        self, perturbations: torch.Tensor, mask: torch.Tensor, random: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the embedding of each row, ``(n_rows, latent_dim)``, and its KL divergence, ``(n_rows,)``."""
        sees_mask = self.mask_logits is not None and not self.mean_field_encoding
        encoded = self.embedding_encoder(torch.cat([mask, perturbations], dim=1) if sees_mask else perturbations)
        if isinstance(encoded, Gaussian):
            return encoded.draw(random), encoded.kl()
        return encoded, encoded.new_zeros(len(encoded))

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
