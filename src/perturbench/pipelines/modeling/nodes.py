"""Train a model and predict the held-out perturbations."""

from __future__ import annotations

from typing import Any

import anndata as ad
import pandas as pd

from perturbench.config.sections import DataConfig, PredictionConfig, TrainerConfig
from perturbench.errors import PerturbenchError
from perturbench.pipelines.inputs import (
    current_inputs,
    make_datamodule,
    prediction_stamp,
    require_fresh,
    training_stamp,
)
from perturbench.provenance import KEY, fingerprint_parameters


def train(
    prepared: ad.AnnData,
    split: pd.DataFrame,
    data: DataConfig,
    trainer: TrainerConfig,
    prediction: PredictionConfig,
    model_target: str,
    hparams: dict[str, Any],
    task: str,
    model: str,
    seed: int,
    unfinished_path: str,
    command: str,
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Fit the model; a killed training goes on. Return it, and its losses as a partition."""
    import lightning as L

    from perturbench.pipelines.tracking import lightning_logger
    from perturbench.training.callbacks import LOSSES
    from perturbench.training.checkpoints import build_model
    from perturbench.training.fitting import fit

    inputs = current_inputs(prepared, split, data.embedding_key)
    selected_on = prepared.uns.get(KEY, {}).get("inputs", {}).get("split", inputs["split"])
    if selected_on != inputs["split"]:
        raise PerturbenchError(
            "genes were selected on the training cells of another split; prepare the cells again: "
            f"kedro run --pipeline=preprocessing --params=task:{task}"
        )
    datamodule = make_datamodule(prepared, split, data, trainer, prediction, seed)
    made_by = training_stamp(inputs, data, trainer, model_target, hparams, task=task, model=model, seed=seed)
    L.seed_everything(seed, workers=True, verbose=False)
    network = build_model(model_target, datamodule.context, hparams)
    checkpoint = fit(
        network,
        datamodule,
        trainer,
        seed=seed,
        logger=lightning_logger(),
        resume_dir=unfinished_path,
        fingerprint=fingerprint_parameters(made_by),
    )
    losses = pd.DataFrame(checkpoint[LOSSES])
    partition = {f"{model}/seed{seed}": losses} if len(losses) else {}
    return {**checkpoint, KEY: {**made_by, "command": command}}, partition


def predict(
    checkpoint: dict[str, Any],
    prepared: ad.AnnData,
    split: pd.DataFrame,
    data: DataConfig,
    trainer: TrainerConfig,
    prediction: PredictionConfig,
    command: str,
) -> dict[str, ad.AnnData]:
    """Predict the cells of a part of the split, as the partition of this model and seed."""
    from perturbench.training.checkpoints import load_model
    from perturbench.training.prediction import predict as predict_cells

    made_by = require_fresh(checkpoint, prepared, split)
    datamodule = make_datamodule(prepared, split, data, trainer, prediction, made_by["seed"])
    cells = predict_cells(load_model(checkpoint), datamodule, prediction.part, accelerator=trainer.accelerator)
    cells.uns[KEY] = {**prediction_stamp(made_by, prediction), "command": command}
    return {f"{made_by['model']}/seed{made_by['seed']}": cells}
