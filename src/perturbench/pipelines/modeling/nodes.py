"""Train a model and predict the held-out perturbations."""

from __future__ import annotations

from typing import Any

import anndata as ad
import pandas as pd

from perturbench.config.sections import DataConfig, PredictionConfig, TrainerConfig
from perturbench.errors import PerturbenchError
from perturbench.pipelines.datamodule import make_datamodule
from perturbench.pipelines.stamps import current_inputs, prediction_stamp, require_current_checkpoint, training_stamp
from perturbench.provenance import KEY, Stamp


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
    """Train the model, or resume an interrupted training; return the checkpoint, and the losses as a partition."""
    import lightning as L

    from perturbench.pipelines.tracking import lightning_logger
    from perturbench.training.callbacks import LOSSES
    from perturbench.training.checkpoints import build_model
    from perturbench.training.fitting import fit

    inputs = current_inputs(prepared, split, data.embedding_key)
    _require_genes_of_this_split(prepared, inputs["split"], task)
    stamp = training_stamp(inputs, data, trainer, model_target, hparams, task=task, model=model, seed=seed)
    datamodule = make_datamodule(prepared, split, data, trainer, prediction, seed)
    L.seed_everything(seed, workers=True, verbose=False)
    network = build_model(model_target, datamodule.context, hparams)
    more = {"logger": lightning_logger(), "resume_dir": unfinished_path, "stamp": stamp}
    checkpoint = fit(network, datamodule, trainer, seed=seed, **more)
    losses = pd.DataFrame(checkpoint[LOSSES])
    partition = {f"{model}/seed{seed}": losses} if len(losses) else {}
    return {**checkpoint, KEY: stamp.extend(command=command).text()}, partition


def predict(
    checkpoint: dict[str, Any],
    prepared: ad.AnnData,
    split: pd.DataFrame,
    data: DataConfig,
    trainer: TrainerConfig,
    prediction: PredictionConfig,
    model_target: str,
    command: str,
) -> dict[str, ad.AnnData]:
    """Predict the cells of a part of the split, as the partition of this model and seed."""
    from perturbench.training.checkpoints import load_model
    from perturbench.training.prediction import predict as predict_cells

    trained = require_current_checkpoint(checkpoint, prepared, split)
    datamodule = make_datamodule(prepared, split, data, trainer, prediction, trained.seed or 0)
    network = load_model(checkpoint, allow_code_from=model_target.rpartition(".")[0])
    cells = predict_cells(network, datamodule, prediction.part, accelerator=trainer.accelerator)
    cells.uns[KEY] = prediction_stamp(trained, prediction, command).text()
    return {f"{trained.model}/seed{trained.seed}": cells}


def _require_genes_of_this_split(prepared: ad.AnnData, split: str, task: str) -> None:
    """Refuse cells whose genes or embedding were fitted on the training cells of a different split."""
    stamp = Stamp.read(prepared.uns)
    if stamp is not None and stamp.inputs.get("split", split) != split:
        raise PerturbenchError(
            "genes were selected, or an embedding fitted, on the training cells of another split; prepare them again: "
            f"kedro run --pipeline=preprocessing --params=task:{task}"
        )
