"""Predict what a table asks for, with a trained model."""

from __future__ import annotations

import json
from typing import Any

import anndata as ad
import pandas as pd

from perturbench.config.sections import DataConfig, PredictionConfig, QueriesConfig, TrainerConfig
from perturbench.pipelines.inputs import make_datamodule, require_fresh
from perturbench.provenance import KEY, fingerprint_frame


def predict_table(
    checkpoint: dict[str, Any],
    query_table: pd.DataFrame,
    prepared: ad.AnnData,
    split: pd.DataFrame,
    data: DataConfig,
    trainer: TrainerConfig,
    prediction: PredictionConfig,
    queries: QueriesConfig,
) -> ad.AnnData:
    """Return the counterfactual cells or pseudobulks of the table's perturbations, stamped with what made them."""
    from perturbench.training import load_model, predict_queries

    made_by = require_fresh(checkpoint, prepared, split)
    datamodule = make_datamodule(prepared, split, data, trainer, prediction, made_by["seed"])
    model = load_model(checkpoint)
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
        seed=made_by["seed"],
        accelerator=trainer.accelerator,
    )
    facts = {"prediction": prediction.model_dump_json(), "queries": queries.model_dump_json(exclude={"template"})}
    table = {"query_table": fingerprint_frame(query_table)}
    predicted.uns[KEY] = {**made_by, **facts, "inputs": {**made_by["inputs"], **table}}
    predicted.uns[KEY]["hparams"] = json.dumps(made_by["hparams"])
    return predicted
