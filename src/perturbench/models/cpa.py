"""Compositional perturbation autoencoder ("CPA*"), with and without its adversary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from perturbench.errors import PerturbenchError
from perturbench.models.base import PerturbationModel
from perturbench.models.nn import MLP, Gaussian, GaussianEncoder, squared_error

if TYPE_CHECKING:
    from perturbench.data.encoding import Context
    from perturbench.data.types import Batch


class CPA(PerturbationModel):
    """A variational autoencoder whose latent cell, free of the perturbation, is shifted by it.

    ``z = z_basal + MLP(p) + sum_k MLP_k(c_k)`` over the covariates with more than one level, where ``z_basal`` is
    drawn from ``q(z_basal | x)``; ``x_hat = dec(z)`` with isotropic Gaussian noise. An adversary tries to tell
    perturbation and covariates from ``z_basal``, and the encoder tries to keep it from doing so (Lotfollahi et al.
    2023, doi:10.15252/msb.202211517; this variant is that of the PerturBench paper). At prediction the encoder sees
    the control cell.

    Parameters
    ----------
    context
        Names of the training data.
    n_latent, hidden_dim, dropout
        Of the autoencoder.
    n_layers_encoder
        Of the decoder; the encoder has one block more.
    n_layers_pert_emb, n_layers_covar_emb
        Of the networks that embed perturbation and covariates.
    elementwise_affine
        Whether layer norms other than the encoder's learn a scale and shift.
    softplus_output
        Whether predictions are made positive.
    use_adversary
        Without, only the autoencoder is trained ("noAdv").
    adv_classifier_n_layers, adv_classifier_hidden_dim
        Of the adversary's classifiers.
    adv_steps
        After the warm-up, every ``adv_steps``-th batch trains the autoencoder and the others the adversary.
    n_warmup_epochs
        Epochs that train the autoencoder alone.
    kl_weight, adv_weight, penalty_weight
        Of the KL divergence, of the adversary's cross-entropy, and of the penalty on the adversary's gradients.
    use_embeddings
        Whether the encoder sees the cell's embedding instead of its expression.
    sample_at_prediction
        Draw ``z_basal`` at prediction too, instead of taking its mean.
    lr, wd
        Of both optimizers.

    Raises
    ------
    PerturbenchError
        If ``adv_steps`` is below 2, which leaves no batch to the adversary.
    """

    allows_cuda_graphs = True

    def __init__(
        self,
        context: Context,
        n_latent: int = 32,
        hidden_dim: int = 128,
        n_layers_encoder: int = 1,
        n_layers_pert_emb: int = 1,
        n_layers_covar_emb: int = 1,
        dropout: float | None = 0.1,
        elementwise_affine: bool = False,
        softplus_output: bool = True,
        use_adversary: bool = True,
        adv_classifier_n_layers: int = 2,
        adv_classifier_hidden_dim: int = 128,
        adv_steps: int = 2,
        n_warmup_epochs: int = 5,
        kl_weight: float = 1.0,
        adv_weight: float = 1.0,
        penalty_weight: float = 1.0,
        use_embeddings: bool = False,
        sample_at_prediction: bool = False,
        lr: float = 1e-3,
        wd: float = 1e-8,
    ) -> None:
        super().__init__(context, lr=lr, wd=wd)
        if use_adversary and adv_steps < 2:
            raise PerturbenchError(f"adv_steps is {adv_steps}; use at least 2, or the adversary is never trained.")
        self.automatic_optimization = False
        self.softplus_output, self.sample_at_prediction = softplus_output, sample_at_prediction
        self.use_adversary, self.use_embeddings = use_adversary, use_embeddings
        self.adv_steps, self.n_warmup_epochs = adv_steps, n_warmup_epochs
        self.kl_weight, self.adv_weight, self.penalty_weight = kl_weight, adv_weight, penalty_weight
        # A covariate with one level says nothing, and nothing can be told about it.
        levels = {key: len(names) for key, names in context["covariate_uniques"].items() if len(names) > 1}
        self.covariates = list(levels)
        n_input, affine = self.input_width(use_embeddings), elementwise_affine
        self.cell_encoder = GaussianEncoder(n_input, hidden_dim, n_latent, n_layers_encoder + 1, dropout, True)
        self.perturbation_embedding = MLP(
            self.n_perturbations, hidden_dim, n_latent, n_layers_pert_emb, dropout, affine
        )
        self.covariate_embeddings = nn.ModuleList(
            MLP(n, hidden_dim, n_latent, n_layers_covar_emb, dropout, affine) for n in levels.values()
        )
        self.decoder = MLP(n_latent, hidden_dim, self.n_genes, n_layers_encoder, dropout, affine)
        told = [self.n_perturbations, *levels.values()] if use_adversary else []
        self.adversary = nn.ModuleList(
            MLP(n_latent, adv_classifier_hidden_dim, n, adv_classifier_n_layers) for n in told
        )

    def predict(self, batch: Batch) -> torch.Tensor:
        """Return the decoded control cells, shifted by perturbation and covariates."""
        cell = self.cell_encoder(batch.matched_controls(self.use_embeddings))
        return self._decode(cell.draw(self.sample_at_prediction), batch)

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the autoencoder's loss without the adversary, ``reconstruction + kl_weight * kl``, and its terms."""
        return self._autoencode(batch)[0]

    def generator_loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the autoencoder's loss less ``adv_weight * cross_entropy`` of the adversary, and its terms."""
        terms, basal = self._autoencode(batch)
        cross_entropy = self._cross_entropy(self._logits(basal), batch)
        return {**terms, "loss": terms["loss"] - self.adv_weight * cross_entropy, "cross_entropy": cross_entropy}

    def adversary_loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return ``adv_weight * cross_entropy + penalty_weight * penalty``, and its terms.

        The penalty is the mean squared gradient of the summed logits with respect to the latent cell.
        """
        with torch.no_grad():
            basal = self._encode(batch).draw(self.training)
        logits = self._logits(basal.requires_grad_())
        gradients = [torch.autograd.grad(one.sum(), basal, create_graph=True)[0] for one in logits]
        penalty = torch.stack([gradient.square().mean() for gradient in gradients]).sum()
        cross_entropy = self._cross_entropy(logits, batch)
        loss = self.adv_weight * cross_entropy + self.penalty_weight * penalty
        return {"loss": loss, "cross_entropy": cross_entropy, "penalty": penalty}

    def configure_optimizers(self) -> Any:
        """Return Adam for the autoencoder and, where it is used, for the adversary."""
        adversary = list(self.adversary.parameters())
        of_adversary = set(map(id, adversary))
        generator = self.adam(weight for weight in self.parameters() if id(weight) not in of_adversary)
        if not adversary:
            return generator
        return generator, {"optimizer": torch.optim.Adam(adversary, lr=self.lr, weight_decay=self.wd)}

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Train the autoencoder or the adversary, one leaving the other's weights alone."""
        optimizers = self.optimizers()
        generator, *adversary = optimizers if isinstance(optimizers, list) else [optimizers]
        warming_up = self.current_epoch < self.n_warmup_epochs
        if warming_up or not adversary:
            self.minimise(generator, self.loss, batch)
        elif self._trains_adversary(batch_idx):
            self.minimise(adversary[0], self.adversary_loss, batch, "train_adversary")
        else:
            self.minimise(generator, self.generator_loss, batch)

    def _trains_adversary(self, batch_idx: int) -> bool:
        """Count batches from the end of the warm-up, across epochs: an epoch may have only one."""
        epochs = self.current_epoch - self.n_warmup_epochs
        return (epochs * int(self.trainer.num_training_batches) + batch_idx) % self.adv_steps != 0

    def _autoencode(self, batch: Batch) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Return the terms of the autoencoder's loss, and the latent cells it drew, ``(n_cells, n_latent)``."""
        cell = self._encode(batch)
        basal = cell.draw(self.training)
        reconstruction = squared_error(self._decode(basal, batch), batch.observed())
        kl = cell.kl().mean()
        return {"loss": reconstruction + self.kl_weight * kl, "reconstruction": reconstruction, "kl": kl}, basal

    def _encode(self, batch: Batch) -> Gaussian:
        return self.cell_encoder(batch.observed(self.use_embeddings))

    def _decode(self, basal: torch.Tensor, batch: Batch) -> torch.Tensor:
        latent = basal + self.perturbation_embedding(batch.perturbations)
        for key, embedding in zip(self.covariates, self.covariate_embeddings, strict=True):
            latent = latent + embedding(batch.covariates[key])
        decoded = self.decoder(latent)
        return F.softplus(decoded) if self.softplus_output else decoded

    def _logits(self, basal: torch.Tensor) -> list[torch.Tensor]:
        return [classifier(basal) for classifier in self.adversary]

    def _cross_entropy(self, logits: list[torch.Tensor], batch: Batch) -> torch.Tensor:
        """Return the classifiers' cross-entropies, summed; a control cell has no perturbation to be told."""
        truths = [batch.perturbations, *(batch.covariates[key] for key in self.covariates)]
        terms = [F.cross_entropy(one, truth) for one, truth in zip(logits, truths, strict=True)]
        return torch.stack(terms).sum()
