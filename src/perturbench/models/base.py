"""The base class of all models: losses, optimizers, counterfactual prediction, testing and checkpoints."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import anndata as ad
import lightning as L
import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F
from torch.optim.lr_scheduler import ReduceLROnPlateau

from perturbench import __version__
from perturbench.analysis.score_table import summarise
from perturbench.analysis.streaming import StreamedEvaluation
from perturbench.data.encoding import context_keys, require_same_names
from perturbench.data.loading.decoding import decode_pairs, obs_of_pairs
from perturbench.data.loading.examples import encode_example
from perturbench.data.loading.pair_sums import PairSums
from perturbench.data.types import Example
from perturbench.errors import PerturbenchError
from perturbench.models.loss_terms import EpochMeans, named_terms, stack_terms
from perturbench.models.plateau import PlateauSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lightning.pytorch.utilities.types import OptimizerLRScheduler

    from perturbench.data.encoding import Context
    from perturbench.data.loading.counterfactual import CounterfactualWithReference
    from perturbench.data.types import Batch
    from perturbench.models.loss_terms import Losses, LossTerms

#: Hooks that Lightning calls around the steps that it takes.
_STEP_HOOKS = (
    "backward",
    "configure_gradient_clipping",
    "on_after_backward",
    "on_before_backward",
    "on_before_optimizer_step",
    "on_before_zero_grad",
    "optimizer_step",
    "optimizer_zero_grad",
)
TRANSFORM = "log1p of counts per 10,000"


class PerturbationModel(L.LightningModule, ABC):
    """A model that predicts the expression of perturbed cells from control cells.

    A subclass defines :meth:`predict`, and :meth:`loss` if it is not the mean squared error of the prediction. All
    arguments of its constructor are hyperparameters and are stored in the checkpoint; predicting needs no other file.

    Parameters
    ----------
    context
        Names of the genes, perturbations and covariate values in the training data; ``from_anndata`` and the datamodule
        return them.
    lr, wd
        Learning rate and weight decay of the Adam optimizer.

    Attributes
    ----------
    training_record
        What the model was trained on: transform of the expression, genes, perturbations, covariates, keys.
    epoch_losses
        Mean of each loss over the cells of the last epoch: ``train_loss``, ``val_loss`` and the other terms.
    """

    #: Whether the model is computed from pseudobulks instead of being trained, see ``ClosedFormModel``.
    closed_form = False
    #: Largest norm of the gradients of a model that steps its optimizers itself; for others, Lightning clips.
    gradient_clip_val: float | None = None
    #: When and how far :meth:`adam` lowers the learning rate; a training sets it to ``trainer.lr_scheduler``.
    #: With ``None`` it never falls.
    plateau: PlateauSettings | None = PlateauSettings()
    #: Whether a training step can be captured once and replayed as a CUDA graph. It may depend on the batch, the
    #: weights and torch's random numbers, but not on the epoch, the number of the step or Python objects that change.
    #: Not inherited: a subclass that changes the loss has to say so again.
    allows_cuda_graphs = False
    #: Function that replaces the plain forward and backward pass, set by ``training.steps``; ``None`` keeps them.
    take_step: Callable[..., LossTerms] | None = None
    #: Metrics that a test computes: the name of a profile, or names of metrics.
    test_metrics: str | list[str] = "default"

    def __init__(self, context: Context, lr: float = 1e-3, wd: float = 1e-8) -> None:
        super().__init__()
        taken = inspect.signature(type(self)).parameters
        self.save_hyperparameters(logger=False, ignore=[name for name in ("lr", "wd") if name not in taken])
        self.training_record: dict[str, Any] = {"transform": TRANSFORM, **context}
        self.lr, self.wd = lr, wd
        self.n_genes = len(context["gene_names"])
        self.n_perturbations = len(context["perturbation_uniques"])
        self.n_covariates = sum(map(len, context["covariate_uniques"].values()))
        self.epoch_losses: dict[str, float] = {}
        self._losses = EpochMeans()

    @abstractmethod
    def predict(self, batch: Batch) -> torch.Tensor:
        """Return the predicted expression of a batch's cells under its perturbations, ``(n_cells, n_genes)``.

        ``batch.gene_expression`` is ``None`` for counterfactuals: start from ``batch.matched_controls()``.
        """

    def forward(self, cells: Batch | Example) -> torch.Tensor:
        """Predict a batch, ``(n_cells, n_genes)``, or a single example of a dataset, ``(n_genes,)``."""
        if isinstance(cells, Example):
            batch = encode_example(cells, self.training_record)  # type: ignore[arg-type]
            return self.predict(batch)[0]
        return self.predict(cells)

    def loss(self, batch: Batch) -> Losses:
        """Return the loss of a batch of observed cells, a scalar.

        A model with several terms returns a dict of scalars: ``loss`` is minimised, and every term is recorded per
        epoch as ``train_<name>`` and ``val_<name>``.
        """
        predicted, observed = self.predict(batch), batch.observed()
        if predicted.shape != observed.shape:
            raise PerturbenchError(
                f"{type(self).__name__}.predict returned {tuple(predicted.shape)} for {tuple(observed.shape)} cells x "
                "genes; return one row per cell and one column per gene."
            )
        return F.mse_loss(predicted, observed)

    def validation_loss(self, batch: Batch) -> Losses:
        """Return the loss of a batch whose mean over the validation cells is ``val_loss``: :meth:`loss`.

        A model whose loss has a penalty on its weights leaves it out here, because it does not tell how well the model
        predicts.
        """
        return self.loss(batch)

    def input_width(self, use_embeddings: bool) -> int:
        """Return the number of values that represent a cell: its genes, or the dimensions of its embedding.

        Raises
        ------
        PerturbenchError
            If embeddings are requested but were not loaded with the data.
        """
        if not use_embeddings:
            return self.n_genes
        if width := self.training_record["n_embedding"]:
            return width
        raise PerturbenchError(
            f"{type(self).__name__} with use_embeddings needs cell embeddings; set data.embedding_key to a key of obsm."
        )

    def covariate_matrix(self, batch: Batch) -> torch.Tensor:
        """Return all one-hot covariates side by side, ``(n_cells, n_covariates)``; no columns if there are none."""
        if batch.covariates:
            return torch.cat(list(batch.covariates.values()), dim=1)
        return batch.perturbations.new_zeros(len(batch.perturbations), 0)

    # Optimizers

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam; its learning rate falls when ``val_loss`` stops improving, as :attr:`plateau` says."""
        return self.adam(self.parameters())

    def adam(self, parameters: Iterable[torch.nn.Parameter]) -> Any:
        """Return Adam for some parameters, with its learning rate scheduler, in the form that Lightning expects."""
        # The fused implementation is the fastest, but Lightning refuses to clip its gradients in mixed precision.
        clips = self.gradient_clip_val or getattr(self._trainer, "gradient_clip_val", None)
        optimizer = torch.optim.Adam(parameters, lr=self.lr, weight_decay=self.wd, fused=not clips)
        if self.plateau is None:
            return {"optimizer": optimizer}
        scheduler: dict[str, Any] = {
            "scheduler": ReduceLROnPlateau(optimizer, factor=self.plateau.factor, patience=self.plateau.patience)
        }
        if self.automatic_optimization:  # Lightning requires a monitor if it takes the steps, and else warns about one
            scheduler["monitor"] = "val_loss"
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def minimise(self, optimizer: Any, loss: Callable[[Batch], Losses], batch: Batch, name: str = "train") -> None:
        """Take one step with one optimizer; weights that belong to other optimizers do not change.

        For models with ``automatic_optimization = False``: call it in ``training_step``, once per optimizer.

        Parameters
        ----------
        optimizer
            One of ``self.optimizers()``.
        loss
            Function that returns the loss of a batch, or its named terms, as :meth:`loss` does.
        batch
            Observed cells.
        name
            Prefix under which the terms are recorded: ``<name>_loss``, ``<name>_<term>``.
        """
        several = isinstance(self.optimizers(), list)
        if several:
            self.toggle_optimizer(optimizer)
        terms = (self.take_step or self.compute_gradients)(optimizer, loss, batch)
        if self.gradient_clip_val:
            self.clip_gradients(optimizer, self.gradient_clip_val, "norm")
        optimizer.step()
        if several:
            self.untoggle_optimizer(optimizer)
        self._losses.add(name, terms, len(batch.perturbations))

    def compute_gradients(self, optimizer: Any, loss: Callable[[Batch], Losses], batch: Batch) -> LossTerms:
        """Compute the gradients of a loss, and return its terms."""
        optimizer.zero_grad()
        terms = named_terms(loss(batch))
        self.manual_backward(terms["loss"])
        return stack_terms(terms)

    def step_by_itself(self) -> None:
        """Step the optimizer in :meth:`training_step` and not in Lightning, so that steps can be compiled or captured.

        A model that overrides one of Lightning's hooks around a step keeps Lightning's steps, which call them. Models
        with a ``training_step`` of their own, such as those with several optimizers, do not change either.
        """
        overridden = any(getattr(type(self), hook) is not getattr(L.LightningModule, hook) for hook in _STEP_HOOKS)
        if type(self).training_step is PerturbationModel.training_step and not overridden:
            self.automatic_optimization = False

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Leave the default scheduler to ``on_validation_epoch_end``; Lightning steps any other."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            super().lr_scheduler_step(scheduler, metric)

    # Losses

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor | None:
        """Return the loss if Lightning minimises it, else minimise it here; record all terms as ``train_<name>``."""
        if not self.automatic_optimization:
            self.minimise(self.optimizers(), self.loss, batch)
            return None
        terms = named_terms(self.loss(batch))
        self._losses.add("train", stack_terms(terms), len(batch.perturbations))
        return terms["loss"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Record all terms as ``val_<name>``; ``val_loss`` chooses the checkpoint."""
        self._losses.add("val", stack_terms(named_terms(self.validation_loss(batch))), len(batch.perturbations))

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's losses, then lower learning rates on a plateau.

        Learning rates change before the state of the epoch is saved, so that a resumed training continues with them.
        """
        self._log_losses()
        if self.trainer.state.fn != "fit" or self.trainer.sanity_checking:
            return
        if self.plateau is None or (self.current_epoch + 1) % self.plateau.frequency:
            return
        schedulers = self.lr_schedulers()
        for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(self.epoch_losses["val_loss"])

    def on_train_epoch_end(self) -> None:
        """Log the epoch's losses if the epoch had no validation."""
        self._log_losses()

    def _log_losses(self) -> None:
        if self._losses:
            reduce = self.trainer.strategy.reduce
            self.epoch_losses = self._losses.read(lambda sums: reduce(sums, reduce_op="sum"))
            self.log_dict(self.epoch_losses, prog_bar=True)

    # Stages of the trainer

    def setup(self, stage: str) -> None:
        """Refuse data that the model was not built for, before any stage of the trainer."""
        context = getattr(getattr(self.trainer, "datamodule", None), "context", None)
        if context is not None:
            self.require_match(context)

    def require_match(self, context: Context) -> None:
        """Raise unless the model can read data with this context.

        Raises
        ------
        PerturbenchError
            If genes, keys, perturbations or covariate values differ; the message names both sides.
        """
        require_same_names(self.training_record, context)  # type: ignore[arg-type]

    def predict_step(self, batch: Batch, batch_idx: int) -> ad.AnnData:
        """Return the counterfactual cells of a batch, log-normalised, with perturbation and covariates in ``obs``."""
        context: Context = self.training_record  # type: ignore[assignment]
        if batch.groups is None:
            pairs, codes = decode_pairs(batch, context)
        else:
            present, codes = np.unique(batch.groups.cpu().numpy(), return_inverse=True)
            dataset = _dataset_of(self.trainer.predict_dataloaders)
            pairs = [dataset.pairs[position] for position in present]
        obs = obs_of_pairs(pairs, codes, context_keys(context), batch.ids)
        predicted = self.predict(batch).float().cpu().numpy()
        return ad.AnnData(predicted, obs=obs, var=pd.DataFrame(index=context["gene_names"]))

    def on_test_start(self) -> None:
        """Prepare the observed side of the evaluation."""
        dataset = _dataset_of(self.trainer.test_dataloaders)
        self._evaluation = StreamedEvaluation(
            dataset.reference(), dataset.groups.keys, dataset.pairs, self.test_metrics
        )
        self._pair_sums = PairSums(len(dataset.pairs), self.n_genes, self.device)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Predict a batch and add it to the sums of its pairs."""
        if batch.groups is None:
            raise PerturbenchError("testing needs counterfactual batches; use the datamodule's test_dataloader.")
        predicted = self.predict(batch).float()
        if self._evaluation.needs_cells:
            self._evaluation.add(predicted.cpu().numpy(), batch.groups.cpu().numpy())
        else:
            self._pair_sums.add(predicted, batch.groups)

    def on_test_epoch_end(self) -> None:
        """Log the mean of each metric over perturbations; ``test_scores`` holds the values per perturbation."""
        if not self._evaluation.needs_cells:
            self._evaluation.add_sums(*self._pair_sums.to_host())
        names = [metric.name for metric in self._evaluation.metrics]
        self.test_scores = self._evaluation.scores()
        summary = summarise(self.test_scores, names).iloc[0]
        self.log_dict({f"test_{name}": float(value) for name, value in summary.items()})
        del self._evaluation, self._pair_sums

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what loading needs: the class of the model and its training record."""
        checkpoint["perturbench_model"] = {
            "version": __version__,
            "target": f"{type(self).__module__}.{type(self).__qualname__}",
            "training_record": self.training_record,
            "val_loss": self.epoch_losses.get("val_loss", float("nan")),
        }


def _dataset_of(loaders: Any) -> CounterfactualWithReference:
    """Return the dataset of a trainer's loader, which may be wrapped in a list."""
    return (loaders[0] if isinstance(loaders, (list, tuple)) else loaders).dataset
