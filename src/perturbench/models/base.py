"""What every model shares: training, counterfactual prediction, testing, and a checkpoint that stands alone."""

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
from perturbench.analysis.evaluation import score
from perturbench.analysis.metrics.distributions import MAX_CELLS
from perturbench.analysis.metrics.registry import resolve_metrics
from perturbench.analysis.profiles import Prediction, Reference, SampledCells
from perturbench.analysis.score_table import summarise
from perturbench.data.encoding import context_keys
from perturbench.data.group_sums import GroupSums
from perturbench.data.loading.examples import encode_example
from perturbench.data.types import Example
from perturbench.errors import PerturbenchError, listing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lightning.pytorch.utilities.types import OptimizerLRScheduler

    from perturbench.data.encoding import Context
    from perturbench.data.groups import Pair
    from perturbench.data.loading.counterfactual import CounterfactualWithReference
    from perturbench.data.types import Batch

TRANSFORM = "log1p of counts per 10,000"


class PerturbationModel(L.LightningModule, ABC):
    """A model that predicts the expression of perturbed cells from control cells.

    A subclass defines :meth:`predict`, and :meth:`loss` if it is not the mean squared error of the prediction. All
    arguments of its constructor are hyperparameters and are stored in the checkpoint, which is all that predicting
    needs.

    Parameters
    ----------
    context
        Names of the training data, as ``from_anndata`` and the datamodule give them.
    lr, wd
        Learning rate and weight decay of Adam.

    Attributes
    ----------
    training_record
        What the model was trained on: transform of the expression, genes, perturbations, covariates, keys.
    """

    #: Whether the model is computed from pseudobulks instead of being trained, see ``ClosedFormModel``.
    closed_form = False
    #: What a model that steps its optimizers itself clips gradients to; for the others Lightning does.
    gradient_clip_val: float | None = None
    #: What a test computes: a profile or names of metrics.
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

    @abstractmethod
    def predict(self, batch: Batch) -> torch.Tensor:
        """Return the predicted expression of a batch's cells under its perturbations, ``(n_cells, n_genes)``.

        ``batch.gene_expression`` is ``None`` where the answer is unknown: start from ``batch.controls``.
        """

    def forward(self, cells: Batch | Example) -> torch.Tensor:
        """Predict a batch, ``(n_cells, n_genes)``, or a single example as a dataset gives it, ``(n_genes,)``."""
        if isinstance(cells, Example):
            batch = encode_example(cells, self.training_record)  # type: ignore[arg-type]
            return self.predict(batch)[0]
        return self.predict(cells)

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the loss of a batch of observed cells, a scalar."""
        predicted, observed = self.predict(batch), observed_of(batch)
        if predicted.shape != observed.shape:
            raise PerturbenchError(
                f"{type(self).__name__}.predict returned {tuple(predicted.shape)} for {tuple(observed.shape)} cells x "
                "genes; return one row per cell and one column per gene."
            )
        return F.mse_loss(predicted, observed)

    def input_width(self, use_embeddings: bool) -> int:
        """Return the width of what stands for a cell: its genes, or its embedding.

        Raises
        ------
        PerturbenchError
            If embeddings are to be used and the data was loaded without.
        """
        if not use_embeddings:
            return self.n_genes
        if width := self.training_record["n_embedding"]:
            return width
        raise PerturbenchError(
            f"{type(self).__name__} with use_embeddings needs cell embeddings; set data.embedding_key to a key of obsm."
        )

    def covariate_matrix(self, batch: Batch) -> torch.Tensor:
        """Return all one-hot covariates side by side, ``(n_cells, n_covariates)``; no columns without covariates."""
        if batch.covariates:
            return torch.cat(list(batch.covariates.values()), dim=1)
        return batch.perturbations.new_zeros(len(batch.perturbations), 0)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam, and a learning rate that falls to a fifth after 15 epochs without a better ``val_loss``."""
        return self.adam(self.parameters())

    def adam(self, parameters: Iterable[torch.nn.Parameter]) -> Any:
        """Return Adam for some parameters, with its learning rate scheduler, as Lightning takes them."""
        # Fused is the fastest; Lightning refuses to clip its gradients in mixed precision.
        clips = getattr(self._trainer, "gradient_clip_val", None) is not None
        optimizer = torch.optim.Adam(parameters, lr=self.lr, weight_decay=self.wd, fused=not clips)
        scheduler: dict[str, Any] = {"scheduler": ReduceLROnPlateau(optimizer, factor=0.2, patience=15)}
        if self.automatic_optimization:  # Lightning insists on a name, and warns of one where it does not step
            scheduler["monitor"] = "val_loss"
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Leave the default scheduler to ``on_validation_epoch_end``; any other goes Lightning's way."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            super().lr_scheduler_step(scheduler, metric)

    def on_validation_epoch_end(self) -> None:
        """Lower learning rates on a plateau, before the epoch's state is saved, so that a resumed training knows.

        Models that step their optimizers themselves get the same.
        """
        if self.trainer.state.fn != "fit" or self.trainer.sanity_checking:
            return
        schedulers = self.lr_schedulers()
        for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(self.trainer.callback_metrics["val_loss"])

    def setup(self, stage: str) -> None:
        """Refuse data that the model was not built for, before any stage of the trainer."""
        context = getattr(getattr(self.trainer, "datamodule", None), "context", None)
        if context is not None:
            self.require_match(context)

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor | None:
        """Return the training loss, logged per epoch as ``train_loss``."""
        loss = self.loss(batch)
        self.log(
            "train_loss",
            loss,
            on_step=False,
            on_epoch=True,
            prog_bar=True,
            batch_size=len(batch.perturbations),
            sync_dist=True,
        )
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log ``val_loss``, which chooses the checkpoint."""
        self.log("val_loss", self.loss(batch), prog_bar=True, batch_size=len(batch.perturbations), sync_dist=True)

    def predict_step(self, batch: Batch, batch_idx: int) -> ad.AnnData:
        """Return the counterfactual cells of a batch, log-normalised, with perturbation and covariates in ``obs``."""
        predicted = self.predict(batch).float().cpu().numpy()
        return ad.AnnData(
            predicted, obs=self._obs_of(batch), var=pd.DataFrame(index=self.training_record["gene_names"])
        )

    def on_test_start(self) -> None:
        """Reduce the observed cells of the test part to the means that predictions are compared with."""
        dataset = _dataset_of(self.trainer.test_dataloaders)
        self._reference = Reference(dataset.reference(), dataset.groups.keys)
        self._order = [self._reference.pairs.index(pair) for pair in dataset.pairs]
        self._sums = GroupSums(len(self._reference.pairs), self.n_genes)
        needs_cells = any(metric.needs == "cells" for metric in resolve_metrics(self.test_metrics))
        self._sample = SampledCells(len(self._reference.pairs), MAX_CELLS) if needs_cells else None

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Predict a batch and add it to the sums of its groups; only a bounded sample of cells is kept, if any."""
        if batch.groups is None:
            raise PerturbenchError("testing needs counterfactual batches; use the datamodule's test_dataloader.")
        codes = torch.as_tensor(self._order)[batch.groups.cpu()].numpy()
        predicted = self.predict(batch).float().cpu().numpy()
        self._sums.add(predicted, codes)
        if self._sample is not None:
            self._sample.add(predicted, codes)

    def on_test_epoch_end(self) -> None:
        """Log the benchmark metrics, means over perturbations; ``test_scores`` has them per perturbation."""
        metrics = resolve_metrics(self.test_metrics)
        cells = self._sample.cells() if self._sample is not None else None
        prediction = Prediction("model", self._reference, self._sums.means, self._sums.counts, cells, "clip")
        self.test_scores = score(prediction, self._reference, metrics)
        summary = summarise(self.test_scores, [metric.name for metric in metrics]).iloc[0]
        self.log_dict({f"test_{name}": float(value) for name, value in summary.items()})
        del self._reference, self._order, self._sums, self._sample

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what loading without the original code's help needs: the class and the training record."""
        checkpoint["perturbench_model"] = {
            "version": __version__,
            "target": f"{type(self).__module__}.{type(self).__qualname__}",
            "training_record": self.training_record,
            "val_loss": float(self.trainer.callback_metrics.get("val_loss", float("nan"))),
        }

    def require_match(self, context: Context) -> None:
        """Raise unless data with this context can be given to the model.

        Raises
        ------
        PerturbenchError
            If genes, keys, perturbations or covariate values differ, with both sides named.
        """
        mine = self.training_record
        sides = [(what, mine[what], context[what]) for what in ("gene_names", "covariate_keys")]
        if all(list(model_has) == list(data_has) for _, model_has, data_has in sides):
            sides = [("perturbations", mine["perturbation_uniques"], context["perturbation_uniques"])]
            sides += [
                (f"values of '{key}'", mine["covariate_uniques"][key], levels)
                for key, levels in context["covariate_uniques"].items()
            ]
        for what, model_has, data_has in sides:
            if list(model_has) != list(data_has):
                raise PerturbenchError(
                    f"the checkpoint does not fit the data: {what} differ. Checkpoint: {_brief(model_has)}. "
                    f"Data: {_brief(data_has)}. Only in the checkpoint: {_without(model_has, data_has)}; "
                    f"only in the data: {_without(data_has, model_has)} (none in either: their order differs). "
                    "Use the data it was trained on, or train it on this."
                )

    def _obs_of(self, batch: Batch) -> pd.DataFrame:
        """Name the perturbation and state of each cell."""
        record = self.training_record
        keys = context_keys(record)  # type: ignore[arg-type]
        if batch.groups is None:
            pairs, codes = self._pairs_of(batch)
        else:
            present, codes = np.unique(batch.groups.cpu().numpy(), return_inverse=True)
            wanted = _dataset_of(self.trainer.predict_dataloaders).pairs
            pairs = [wanted[code] for code in present]
        obs = pd.DataFrame(
            [[condition, *state] for state, condition in pairs], columns=[keys.perturbation, *keys.covariates]
        )
        obs = obs.astype("category").iloc[codes]
        obs["control_cell"] = "" if batch.ids is None else batch.ids
        return obs.set_axis([f"cell{i}" for i in range(len(codes))])

    def _pairs_of(self, batch: Batch) -> tuple[list[Pair], np.ndarray]:
        """Return the distinct (state, perturbation) pairs of an encoded batch, and each cell's position in them."""
        record = self.training_record
        keys = context_keys(record)  # type: ignore[arg-type]
        encoded = torch.cat([batch.perturbations, self.covariate_matrix(batch)], dim=1).cpu()
        rows, codes = torch.unique(encoded, dim=0, return_inverse=True)
        pairs = []
        for row in rows.bool().numpy():
            hot = np.flatnonzero(row[: self.n_perturbations])
            names = [record["perturbation_uniques"][i] for i in hot]
            levels = [level for levels in record["covariate_uniques"].values() for level in levels]
            state = tuple(levels[i] for i in np.flatnonzero(row[self.n_perturbations :]))
            pairs.append((state, (keys.delimiter or "").join(names) or str(keys.control)))
        return pairs, codes.numpy()


def _dataset_of(loaders: Any) -> CounterfactualWithReference:
    """Return the dataset of a trainer's loader, which may be wrapped in a list."""
    return (loaders[0] if isinstance(loaders, (list, tuple)) else loaders).dataset


def controls_of(batch: Batch, use_embeddings: bool = False) -> torch.Tensor:
    """Return the matched controls of a batch, ``(n_cells, n_genes)``, or their embeddings, ``(n_cells, n_embedding)``.

    Raises
    ------
    PerturbenchError
        If the dataset does not match controls.
    """
    if batch.controls is None:
        raise PerturbenchError("the batch has no matched controls; use SingleCellPerturbationWithControls.")
    return _embedded(batch.control_embeddings) if use_embeddings else batch.controls


def observed_of(batch: Batch, use_embeddings: bool = False) -> torch.Tensor:
    """Return the observed expression of a batch, ``(n_cells, n_genes)``, or its embedding, ``(n_cells, n_embedding)``.

    Raises
    ------
    PerturbenchError
        If it is a batch of counterfactuals.
    """
    if batch.gene_expression is None:
        raise PerturbenchError("a counterfactual batch has no observed expression; predict from batch.controls.")
    return _embedded(batch.embeddings) if use_embeddings else batch.gene_expression


def _embedded(embeddings: torch.Tensor | None) -> torch.Tensor:
    if embeddings is None:
        raise PerturbenchError("the batch has no embeddings; load the data with an embedding_key.")
    return embeddings


def _brief(names: list[str]) -> str:
    return f"{len(names)} ({listing(names, 5)})"


def _without(names: list[str], others: list[str]) -> str:
    return listing(sorted(set(names) - set(others)), 5)
