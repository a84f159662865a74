"""Compositional perturbation autoencoder ("CPA*"), with and without its adversary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from perturbench.errors import PerturbenchError
from perturbench.models.base import PerturbationModel
from perturbench.models.nn import MLP, Gaussian, GaussianEncoder, blocks, squared_error

if TYPE_CHECKING:
    from perturbench.data.encoding import Context
    from perturbench.data.types import Batch


class CPA(PerturbationModel):
    """Shift a cell's basal latent vector by its perturbation and covariates, then decode it.

    A variational encoder draws ``z_basal`` from ``q(z_basal | x)``. The latent vector is
    ``z = z_basal + MLP(p) + sum_k MLP_k(c_k)`` over the covariates with more than one level, and ``x_hat = dec(z)``
    with isotropic Gaussian noise. Adversarial classifiers predict perturbation and covariates from ``z_basal``, and the
    encoder is trained to make them fail, so that ``z_basal`` contains neither. In training the encoder sees the
    observed cell, at prediction the control cell. The model is the PerturBench paper's variant of CPA (Lotfollahi et
    al. 2023, doi:10.15252/msb.202211517).

    Parameters
    ----------
    context
        Names of the training data.
    n_latent
        Width of the latent vector.
    variational
        Whether ``z_basal`` is a distribution with a KL divergence; otherwise it is a plain vector.
    hidden_dim
        Hidden width of encoder, decoder and embedding networks.
    dropout
        Dropout rate of all networks.
    n_layers_encoder
        Number of blocks of the decoder. The encoder has one more, and no other layers before its heads.
    n_layers_pert_emb, n_layers_covar_emb
        Number of blocks of the networks that embed the perturbation and each covariate.
    elementwise_affine
        Whether the layer norms learn a scale and a shift; those of the encoder always do.
    softplus_output
        Whether a softplus makes the predictions positive.
    use_adversary
        Whether to train against adversarial classifiers; without them the model is "noAdv".
    adv_classifier_n_layers, adv_classifier_hidden_dim
        Number of blocks and hidden width of each adversarial classifier.
    adv_steps
        After the warm-up, one in ``adv_steps`` batches trains the autoencoder, and the others train the adversary.
    restart_adv_steps
        Whether each epoch counts its batches for ``adv_steps`` from 0, as in the published code, so that the first
        batch of every epoch trains the autoencoder.
    n_warmup_epochs
        Number of epochs at the start that train only the autoencoder.
    adversary_in_val_loss
        Whether ``val_loss``, which chooses the checkpoint, has the adversary's term, as in the published code.
    kl_weight, adv_weight, penalty_weight
        Weights of the KL divergence, of the adversary's cross-entropy, and of the penalty on the adversary's gradients.
    use_embeddings
        Whether the encoder sees the cell's embedding instead of its expression.
    sample_at_prediction
        Whether to draw ``z_basal`` at prediction instead of taking its mean.
    lr, wd
        Learning rate and weight decay of the two Adam optimizers, for the autoencoder and for the adversary.

    Raises
    ------
    PerturbenchError
        If ``adv_steps`` is below 2 with an adversary, which would then never be trained.
    """

    allows_cuda_graphs = True

    def __init__(
        self,
        context: Context,
        n_latent: int = 32,
        variational: bool = True,
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
        restart_adv_steps: bool = False,
        n_warmup_epochs: int = 5,
        adversary_in_val_loss: bool = False,
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
            raise PerturbenchError(
                f"adv_steps is {adv_steps}, which never trains the adversary; use at least 2, or use_adversary=False."
            )
        self.automatic_optimization = False
        self.softplus_output, self.sample_at_prediction = softplus_output, sample_at_prediction
        self.use_adversary, self.use_embeddings = use_adversary, use_embeddings
        self.adv_steps, self.n_warmup_epochs = adv_steps, n_warmup_epochs
        self.restart_adv_steps, self.adversary_in_val_loss = restart_adv_steps, adversary_in_val_loss
        self.variational = variational
        self.kl_weight, self.adv_weight, self.penalty_weight = kl_weight, adv_weight, penalty_weight
        # A covariate with a single level carries no information: there is nothing to embed or to classify.
        levels = {key: len(names) for key, names in context["covariate_uniques"].items() if len(names) > 1}
        self.covariates = list(levels)
        n_input, affine = self.input_width(use_embeddings), elementwise_affine
        body = nn.Sequential(*blocks(n_input, hidden_dim, n_layers_encoder + 1, dropout, elementwise_affine=True))
        self.cell_encoder = (
            GaussianEncoder(body, hidden_dim, n_latent)
            if variational
            else nn.Sequential(body, nn.Linear(hidden_dim, n_latent))
        )
        self.perturbation_embedding = MLP(
            self.n_perturbations, hidden_dim, n_latent, n_layers_pert_emb, dropout, affine
        )
        self.covariate_embeddings = nn.ModuleList(
            MLP(n, hidden_dim, n_latent, n_layers_covar_emb, dropout, affine) for n in levels.values()
        )
        self.decoder = MLP(n_latent, hidden_dim, self.n_genes, n_layers_encoder, dropout, affine)
        n_classes = [self.n_perturbations, *levels.values()] if use_adversary else []
        self.adversary = nn.ModuleList(
            MLP(n_latent, adv_classifier_hidden_dim, n, adv_classifier_n_layers, dropout, affine) for n in n_classes
        )

    def predict(self, batch: Batch) -> torch.Tensor:
        """Return the control cells, encoded, shifted by perturbation and covariates, and decoded."""
        basal, _ = self._encode(batch.matched_controls(self.use_embeddings), self.sample_at_prediction)
        return self._decode(basal, batch)

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the loss without the adversary, ``reconstruction + kl_weight * kl``, and its terms."""
        return self._autoencode(batch)[0]

    def generator_loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return ``reconstruction + kl_weight * kl - adv_weight * cross_entropy``, and its terms.

        The sign of the adversary's cross-entropy is negative, because the encoder gains where the adversary fails.
        """
        terms, basal = self._autoencode(batch)
        cross_entropy = self._cross_entropy(self._logits(basal), batch)
        return {**terms, "loss": terms["loss"] - self.adv_weight * cross_entropy, "cross_entropy": cross_entropy}

    def validation_loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the loss without the adversary, or with it if ``adversary_in_val_loss``, and its terms."""
        with_adversary = self.adversary_in_val_loss and self.use_adversary
        return self.generator_loss(batch) if with_adversary else self.loss(batch)

    def adversary_loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return ``adv_weight * cross_entropy + penalty_weight * penalty``, and its terms.

        The penalty is the mean squared gradient of the summed logits with respect to ``z_basal``. It keeps the
        classifiers smooth, so that the encoder gets useful gradients from them.
        """
        with torch.no_grad():  # the adversary's turn: its loss must not reach the encoder
            basal, _ = self._encode(batch.observed(self.use_embeddings), self.training)
        logits = self._logits(basal.requires_grad_())
        # create_graph: the penalty is a function of gradients and is itself minimised.
        gradients = [torch.autograd.grad(classes.sum(), basal, create_graph=True)[0] for classes in logits]
        penalty = torch.stack([gradient.square().mean() for gradient in gradients]).sum()
        cross_entropy = self._cross_entropy(logits, batch)
        loss = self.adv_weight * cross_entropy + self.penalty_weight * penalty
        return {"loss": loss, "cross_entropy": cross_entropy, "penalty": penalty}

    def configure_optimizers(self) -> Any:
        """Return an Adam optimizer for the autoencoder and, if there is one, another for the adversary."""
        adversary = list(self.adversary.parameters())
        adversary_ids = set(map(id, adversary))
        generator = self.adam(weight for weight in self.parameters() if id(weight) not in adversary_ids)
        if not adversary:
            return generator
        # No scheduler for the adversary: val_loss does not measure it.
        return generator, {"optimizer": self.adam(adversary)["optimizer"]}

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Train either the autoencoder or the adversary on this batch; the other's weights stay fixed."""
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
        """Return whether this batch is the adversary's turn.

        Unless ``restart_adv_steps``, batches are counted across epochs from the end of the warm-up, because an epoch
        may have only one batch, which would always be the autoencoder's.
        """
        if not self.restart_adv_steps:
            epochs = self.current_epoch - self.n_warmup_epochs
            batch_idx += epochs * int(self.trainer.num_training_batches)
        return batch_idx % self.adv_steps != 0

    def _autoencode(self, batch: Batch) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Return the terms of the autoencoder's loss, and the drawn ``z_basal``, ``(n_cells, n_latent)``."""
        basal, kl = self._encode(batch.observed(self.use_embeddings), self.training)
        reconstruction = squared_error(self._decode(basal, batch), batch.observed())
        return {"loss": reconstruction + self.kl_weight * kl, "reconstruction": reconstruction, "kl": kl}, basal

    def _encode(self, cells: torch.Tensor, random: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``z_basal``, ``(n_cells, n_latent)``, and the mean of its KL divergence from N(0, 1).

        ``z_basal`` is a sample if ``random``, and its mean otherwise.
        """
        if not self.variational:
            return self.cell_encoder(cells), cells.new_zeros(())
        posterior: Gaussian = self.cell_encoder(cells)
        return posterior.draw(random), posterior.kl().mean()

    def _decode(self, basal: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the expression decoded from the shifted latent vectors, ``(n_cells, n_genes)``."""
        latent = basal + self.perturbation_embedding(batch.perturbations)
        for key, embedding in zip(self.covariates, self.covariate_embeddings, strict=True):
            latent = latent + embedding(batch.covariates[key])
        decoded = self.decoder(latent)
        return F.softplus(decoded) if self.softplus_output else decoded

    def _logits(self, basal: torch.Tensor) -> list[torch.Tensor]:
        """Return the logits of each classifier, ``(n_cells, n_classes)``: perturbation first, then covariates."""
        return [classifier(basal) for classifier in self.adversary]

    def _cross_entropy(self, logits: list[torch.Tensor], batch: Batch) -> torch.Tensor:
        """Return the sum of the classifiers' cross-entropies, a scalar."""
        # Targets are multi-hot: control cells add nothing to the perturbation's term, combinations one term per single.
        targets = [batch.perturbations, *(batch.covariates[key] for key in self.covariates)]
        terms = [F.cross_entropy(classes, target) for classes, target in zip(logits, targets, strict=True)]
        return torch.stack(terms).sum()
