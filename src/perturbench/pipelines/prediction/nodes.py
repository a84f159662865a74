"""Predict the queries of a table with a trained model."""

from __future__ import annotations

from typing import Any

import anndata as ad
import pandas as pd

from perturbench.config.sections import DataConfig, PredictionConfig, QueriesConfig, TrainerConfig
from perturbench.pipelines.datamodule import make_datamodule
from perturbench.pipelines.stamps import queries_stamp, require_current_checkpoint
from perturbench.provenance import KEY


def predict_table(
    checkpoint: dict[str, Any],
    query_table: pd.DataFrame,
    prepared: ad.AnnData,
    split: pd.DataFrame,
    data: DataConfig,
    trainer: TrainerConfig,
    prediction: PredictionConfig,
    queries: QueriesConfig,
    model_target: str,
) -> ad.AnnData:
    """Return counterfactual cells or pseudobulks of the perturbations in the table."""
    from perturbench.training import load_model, predict_queries

    trained = require_current_checkpoint(checkpoint, prepared, split)
    datamodule = make_datamodule(prepared, split, data, trainer, prediction, trained.seed or 0)
    model = load_model(checkpoint, allow_code_from=model_target.rpartition(".")[0])
    model.require_match(datamodule.context)
    predicted = predict_queries(
        model,
        prepared,
        query_table,
        output=queries.output,
        rows=datamodule.evaluation_rows(prediction.part),
        max_control_cells=prediction.max_control_cells,
        batch_size=trainer.batch_size,
        num_workers=trainer.num_workers,
        seed=trained.seed or 0,
        accelerator=trainer.accelerator,
    )
    predicted.uns[KEY] = queries_stamp(trained, prediction, queries, query_table).text()
    return predicted
