"""Predictions of a trained model for a part of the split or a table of queries, and its scores on a part."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Literal

import anndata as ad
import numpy as np
import pandas as pd
from lightning.pytorch.callbacks import BasePredictionWriter

from perturbench.data.encoding import context_keys
from perturbench.data.group_sums import GroupSums
from perturbench.data.groups import Groups, pair_name
from perturbench.data.loading.batches import BatchLoader, batch_loader
from perturbench.data.loading.cell_matrix import CellMatrix
from perturbench.data.loading.counterfactual import Counterfactual
from perturbench.data.queries import query_pairs
from perturbench.errors import PerturbenchError, listing, require_choice
from perturbench.training.trainer import plain_trainer, quiet_lightning, repeatable

if TYPE_CHECKING:
    import lightning as L

    from perturbench.data.labels import Part
    from perturbench.data.loading.datamodule import PerturbationDataModule
    from perturbench.models.base import PerturbationModel

Output = Literal["cells", "pseudobulk"]
OUTPUTS: tuple[Output, ...] = ("cells", "pseudobulk")
logger = logging.getLogger(__name__)


def predict(
    model: PerturbationModel,
    datamodule: PerturbationDataModule,
    part: Part = "test",
    *,
    accelerator: str = "auto",
) -> ad.AnnData:
    """Predict the counterfactual cells of a part.

    Parameters
    ----------
    model
        A model that was trained on the training cells of the datamodule.
    datamodule
        The data and the split.
    part
        The part whose (state, perturbation) pairs are predicted.
    accelerator
        The device that predicts, as in ``lightning.Trainer``.

    Returns
    -------
    Cells ``(n_pairs x n_controls, n_genes)``, log-normalised, with perturbation and covariates in ``obs``.

    Raises
    ------
    PerturbenchError
        If the model was trained on other genes, perturbations or covariates, or on pairs of the part.
    """
    model.require_match(datamodule.context)
    if part != "train":
        _refuse_trained_pairs(model, datamodule, part)
    return _cells(model, datamodule.predict_dataloader(part), accelerator)


def predict_queries(
    model: PerturbationModel,
    adata: ad.AnnData,
    table: pd.DataFrame,
    *,
    output: Output = "cells",
    rows: np.ndarray | None = None,
    max_control_cells: int | None = None,
    batch_size: int = 256,
    num_workers: int = 0,
    seed: int = 0,
    accelerator: str = "auto",
) -> ad.AnnData:
    """Predict the pairs in a table of queries, which need not have been observed.

    Parameters
    ----------
    model
        A trained model; :func:`perturbench.training.load_model` loads it from a checkpoint.
    adata
        Cells with log-normalised expression in ``X``, ``(n_cells, n_genes)``, of the genes that the model was trained
        on. Predictions start from its control cells.
    table
        One row per query, a (state, perturbation) pair; its columns have the names of the training data's
        perturbation and covariate columns. See :func:`perturbench.data.queries.read_table`.
    output
        ``cells``: every control cell of the state under the perturbation. ``pseudobulk``: their mean, summed batch by
        batch, so that the predicted cells of all pairs are never in memory at once.
    rows
        Rows of ``adata`` to take control cells from, ``(n_rows,)``; all rows if not given.
    max_control_cells, seed
        Largest number of control cells per state, ``None`` for all of them, and the seed of the sample.
    batch_size, num_workers
        Number of cells per batch, and of processes that load batches.
    accelerator
        The device that predicts, as in ``lightning.Trainer``.

    Returns
    -------
    ``cells``: ``(n_pairs x n_controls, n_genes)``; ``pseudobulk``: ``(n_pairs, n_genes)``, with the number of cells
    averaged in ``obs["n_cells"]``. Both in the table's order, log-normalised, perturbation and covariates in ``obs``.

    Raises
    ------
    PerturbenchError
        Before anything is computed, if the model was trained on other genes or columns, or a query cannot be predicted
        (see :func:`perturbench.data.queries.query_pairs`). Afterwards, if a prediction is not finite.
    """
    require_choice("output", output, OUTPUTS)
    context = model.training_record
    model.require_match({**context, "gene_names": list(adata.var_names)})  # type: ignore[typeddict-item]
    groups = Groups.from_obs(adata.obs, context_keys(context))  # type: ignore[arg-type]
    rows = np.arange(adata.n_obs) if rows is None else rows
    pairs = query_pairs(table, context, groups, rows)  # type: ignore[arg-type]
    cells = CellMatrix(adata, context["embedding_key"])
    dataset = Counterfactual(
        cells,
        groups,
        rows,
        pairs,
        context,  # type: ignore[arg-type]
        max_control_cells=max_control_cells,
        seed=seed,
    )
    size = len(dataset) * model.n_genes * 4 / 1e9
    logger.info("predicting %d cells for %d queries; all cells together take %.2g GB", len(dataset), len(pairs), size)
    loader = batch_loader(dataset, batch_size, num_workers=num_workers)
    predicted = (_cells if output == "cells" else _pseudobulk)(model, loader, accelerator)
    _require_finite(predicted, context["perturbation_key"])
    return predicted


def test_scores(
    model: PerturbationModel, datamodule: PerturbationDataModule, part: Part = "test", *, accelerator: str = "auto"
) -> pd.DataFrame:
    """Score a model on a part without keeping its predicted cells.

    Parameters
    ----------
    model, datamodule, part, accelerator
        As in :func:`predict`. The metrics are the model's ``test_metrics``.

    Returns
    -------
    Scores in long form, see :class:`perturbench.analysis.evaluation.Evaluation`.
    """
    model.require_match(datamodule.context)
    with quiet_lightning(), repeatable():
        trainer = plain_trainer(accelerator, progress=False)
        trainer.test(model, datamodule.predict_dataloader(part), verbose=False)
    return model.test_scores


def _cells(model: PerturbationModel, loader: BatchLoader, accelerator: str) -> ad.AnnData:
    """Return the predicted cells of a loader of counterfactuals."""
    collected = _Collect(len(loader.dataset), model.n_genes)  # type: ignore[arg-type]
    _predict(model, loader, accelerator, collected)
    obs = pd.concat(collected.obs, ignore_index=True)
    obs = obs.astype({key: "category" for key in obs.columns if key != "control_cell"})
    return _with_names(collected.x, obs, "cell", model)


def _pseudobulk(model: PerturbationModel, loader: BatchLoader, accelerator: str) -> ad.AnnData:
    """Return the mean of the predicted cells of each pair of a loader of counterfactuals."""
    pairs, keys = loader.dataset.pairs, context_keys(model.training_record)  # type: ignore[attr-defined, arg-type]
    averaged = _Average(len(pairs), model.n_genes)
    _predict(model, loader, accelerator, averaged)
    rows = [(name, *state) for state, name in pairs]
    obs = pd.DataFrame(rows, columns=[keys.perturbation, *keys.covariates]).astype("category")
    return _with_names(averaged.sums.means.astype(np.float32), obs.assign(n_cells=averaged.sums.counts), "pair", model)


def _predict(model: PerturbationModel, loader: BatchLoader, accelerator: str, writer: BasePredictionWriter) -> None:
    with quiet_lightning(), repeatable():
        trainer = plain_trainer(accelerator, progress=sys.stderr.isatty(), callbacks=[writer])
        trainer.predict(model, loader, return_predictions=False)


def _with_names(x: np.ndarray, obs: pd.DataFrame, prefix: str, model: PerturbationModel) -> ad.AnnData:
    obs.index = pd.Index([f"{prefix}{i}" for i in range(len(obs))])
    return ad.AnnData(x, obs=obs, var=pd.DataFrame(index=model.training_record["gene_names"]))


class _Collect(BasePredictionWriter):
    """Collect predicted cells in one matrix, which is allocated once."""

    def __init__(self, n_cells: int, n_genes: int) -> None:
        super().__init__("batch")
        self.x = np.empty((n_cells, n_genes), dtype=np.float32)
        self.obs: list[pd.DataFrame] = []
        self._filled = 0

    def write_on_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, prediction: Any, *_: Any) -> None:
        self.x[self._filled : self._filled + prediction.n_obs] = prediction.X
        self._filled += prediction.n_obs
        self.obs.append(prediction.obs)


class _Average(BasePredictionWriter):
    """Sum predicted cells per pair, without storing the cells."""

    def __init__(self, n_pairs: int, n_genes: int) -> None:
        super().__init__("batch")
        self.sums = GroupSums(n_pairs, n_genes)

    def write_on_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, prediction: Any, _: Any, batch: Any, *rest: Any
    ) -> None:
        self.sums.add(prediction.X, batch.groups.cpu().numpy())


def _require_finite(predicted: ad.AnnData, perturbation_key: str) -> None:
    bad = ~np.isfinite(predicted.X.sum(axis=1))
    if bad.any():
        names = predicted.obs.loc[bad, perturbation_key].unique()
        raise PerturbenchError(
            f"the model predicts NaN or infinite values in {bad.sum()} of {len(bad)} rows, for the perturbations "
            f"{listing(names)}; train it again, with a lower learning rate."
        )


def _refuse_trained_pairs(model: PerturbationModel, datamodule: PerturbationDataModule, part: str) -> None:
    trained = {(tuple(pair[:-1]), pair[-1]) for pair in model.training_record.get("training_pairs", [])}
    if leaked := [pair for pair in datamodule.pairs(part) if pair in trained]:  # type: ignore[arg-type]
        raise PerturbenchError(
            f"the model was trained on {len(leaked)} of the {part} pairs: {listing(map(pair_name, leaked))}; "
            "it was trained with another split. Train it with this one."
        )
