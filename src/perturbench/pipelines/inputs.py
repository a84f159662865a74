"""What stages share: the datamodule, the stamps of what they make, and whether those are of what is there now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anndata as ad
import pandas as pd

from perturbench.config.sections import DataConfig, PredictionConfig, TrainerConfig
from perturbench.errors import PerturbenchError
from perturbench.provenance import (
    KEY,
    fingerprint_adata,
    fingerprint_array,
    fingerprint_frame,
    fingerprint_module,
    fingerprint_parameters,
    stamp,
)

if TYPE_CHECKING:
    from perturbench.data import PerturbationDataModule

_EMBEDDING = "embedding "


def current_inputs(prepared: ad.AnnData, split: pd.DataFrame, embedding_key: str | None = None) -> dict[str, str]:
    """Return the fingerprints of the prepared cells, the split and the cell embedding that is used, if one is."""
    inputs = {"prepared": fingerprint_adata(prepared), "split": fingerprint_frame(split)}
    return inputs | embedding_input(prepared, embedding_key)


def embedding_input(prepared: ad.AnnData, embedding_key: str | None) -> dict[str, str]:
    """Return the fingerprint of an embedding, by the name that stamps have it under; none if none is used.

    It is apart from the cells' own, which models that do not use it were made from as well.
    """
    from perturbench.data.encoding import require_embedding

    require_embedding(prepared, embedding_key)
    if embedding_key is None:
        return {}
    return {embedding_name(embedding_key): fingerprint_array(prepared.obsm[embedding_key])}


def embedding_name(embedding_key: str) -> str:
    """Return the name that stamps have an embedding under."""
    return _EMBEDDING + embedding_key


def used_embedding(made_by: Mapping[str, Any]) -> str | None:
    """Return the key of the embedding that an artifact's stamp names."""
    names = (name for name in made_by.get("inputs", {}) if name.startswith(_EMBEDDING))
    return next((name.removeprefix(_EMBEDDING) for name in names), None)


def changed_inputs(made_by: Mapping[str, Any], current: Mapping[str, str]) -> list[str]:
    """Return the inputs that an artifact's stamp names and that are others now."""
    inputs = made_by.get("inputs", {})
    return [name for name, fingerprint in current.items() if name in inputs and inputs[name] != fingerprint]


def require_fresh(checkpoint: Mapping[str, Any], prepared: ad.AnnData, split: pd.DataFrame) -> dict[str, Any]:
    """Return the stamp of a checkpoint; refuse one that was trained on other cells or another split than are there."""
    made_by = checkpoint[KEY]
    if changed := changed_inputs(made_by, current_inputs(prepared, split, used_embedding(made_by))):
        raise PerturbenchError(
            f"the checkpoint was trained on another {' and '.join(changed)}; train again: kedro run "
            f"--pipeline=modeling --params=task:{made_by['task']},model:{made_by['model']},seed:{made_by['seed']}"
        )
    return made_by


def training_stamp(
    inputs: Mapping[str, str],
    data: DataConfig,
    trainer: TrainerConfig,
    model_target: str,
    hparams: Mapping[str, Any],
    **cell: Any,
) -> dict[str, Any]:
    """Return the stamp of a checkpoint: task, model and seed, what it is trained on, how, and by which code."""
    parameters = [data.model_dump(exclude={"source", "card"}), trainer.result_fields(), model_target, hparams]
    return stamp(
        **cell,
        inputs=dict(inputs),
        parameters=fingerprint_parameters(parameters),
        code=fingerprint_module(model_target.rpartition(".")[0]),
        hparams=dict(hparams),
    )


def prediction_stamp(made_by: Mapping[str, Any], prediction: PredictionConfig) -> dict[str, Any]:
    """Return the stamp of the predictions of a checkpoint; h5ad holds hyperparameters as JSON."""
    return {**made_by, "prediction": prediction.model_dump_json(), "hparams": json.dumps(made_by["hparams"])}


def make_datamodule(
    prepared: ad.AnnData,
    split: pd.DataFrame,
    data: DataConfig,
    trainer: TrainerConfig,
    prediction: PredictionConfig,
    seed: int,
) -> PerturbationDataModule:
    """Return the datamodule that a stage trains or predicts with."""
    from perturbench.data import PerturbationDataModule

    return PerturbationDataModule(
        prepared,
        split["split"],
        data.keys,
        batch_size=trainer.batch_size,
        num_workers=trainer.num_workers,
        preload_to_device=trainer.preload_to_device,
        seed=seed,
        prediction_controls=prediction.controls,
        max_control_cells=prediction.max_control_cells,
        embedding_key=data.embedding_key,
    )
