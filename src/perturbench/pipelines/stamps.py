"""The stamps of the files of each stage, and checks that a file belongs to the current cells and split."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import anndata as ad
import pandas as pd

from perturbench.config.sections import (
    DataConfig,
    EmbeddingConfig,
    EvaluationConfig,
    HpoConfig,
    PredictionConfig,
    QueriesConfig,
    TrainerConfig,
)
from perturbench.errors import PerturbenchError
from perturbench.pipelines.stage_code import embedding_code, prediction_code, score_code, training_code
from perturbench.provenance import (
    KEY,
    Stamp,
    fingerprint_adata,
    fingerprint_array,
    fingerprint_frame,
    fingerprint_parameters,
)

if TYPE_CHECKING:
    from perturbench.analysis.metrics.registry import Metric

logger = logging.getLogger(__name__)
_EMBEDDING = "embedding "
#: Parameters of the data section that say where the data comes from; results do not depend on them.
_ORIGIN = {"source", "card"}


def current_inputs(prepared: ad.AnnData, split: pd.DataFrame, embedding_key: str | None = None) -> dict[str, str]:
    """Return the fingerprints of the prepared cells, the split and, if a key is given, the cell embedding."""
    inputs = {"cells": fingerprint_adata(prepared), "split": fingerprint_frame(split)}
    return inputs | embedding_input(prepared, embedding_key)


def embedding_input(prepared: ad.AnnData, embedding_key: str | None) -> dict[str, str]:
    """Return the fingerprint of a cell embedding by its name in stamps; empty if the key is ``None``.

    The fingerprint of the cells leaves embeddings out, because most models do not use them.
    """
    from perturbench.data.encoding import require_embedding

    require_embedding(prepared, embedding_key)
    if embedding_key is None:
        return {}
    return {embedding_name(embedding_key): fingerprint_array(prepared.obsm[embedding_key])}


def embedding_name(embedding_key: str) -> str:
    """Return the name of a cell embedding in stamps."""
    return _EMBEDDING + embedding_key


def used_embedding(stamp: Stamp) -> str | None:
    """Return the key of the cell embedding that a file was made with; ``None`` if it was made without one."""
    names = (name for name in stamp.inputs if name.startswith(_EMBEDDING))
    return next((name.removeprefix(_EMBEDDING) for name in names), None)


def data_settings(data: DataConfig) -> dict[str, Any]:
    """Return the parameters of the data section that results depend on."""
    return data.model_dump(exclude=_ORIGIN)


def cell_embedding_stamp(
    curated: ad.AnnData, embedding: EmbeddingConfig, weights: Mapping[str, str], task: str
) -> Stamp:
    """Return the stamp of scGPT's embedding; ``weights`` are the fingerprints of the network's files by name."""
    inputs = {"curated cells": fingerprint_adata(curated), "checkpoint": fingerprint_parameters(weights)}
    return Stamp.make(
        task, inputs=inputs, settings={"embedding": embedding.result_fields()}, code=embedding_code("scgpt")
    )


def training_stamp(
    inputs: Mapping[str, str],
    data: DataConfig,
    trainer: TrainerConfig,
    model_target: str,
    hparams: Mapping[str, Any],
    *,
    task: str,
    model: str,
    seed: int,
) -> Stamp:
    """Return the stamp of a checkpoint."""
    settings = {
        "data": data_settings(data),
        "trainer": trainer.result_fields(),
        "model": {"class": model_target},
        "hyperparameters": hparams,
    }
    return Stamp.make(task, model, seed, inputs=inputs, settings=settings, code=training_code(model_target))


def prediction_stamp(trained: Stamp, prediction: PredictionConfig, command: str = "") -> Stamp:
    """Return the stamp of a prediction; ``trained`` is the stamp of the checkpoint that predicts."""
    return trained.extend(settings={"prediction": prediction}, code=prediction_code(), command=command)


def queries_stamp(
    trained: Stamp, prediction: PredictionConfig, queries: QueriesConfig, query_table: pd.DataFrame
) -> Stamp:
    """Return the stamp of the predictions of a table of queries; ``trained`` is the stamp of the checkpoint."""
    settings = {"queries": queries.model_dump(exclude={"template"})}
    inputs = {"query table": fingerprint_frame(query_table)}
    return prediction_stamp(trained, prediction).extend(inputs=inputs, settings=settings)


def search_stamp(
    inputs: Mapping[str, str],
    data: DataConfig,
    trainer: TrainerConfig,
    prediction: PredictionConfig,
    hpo: HpoConfig,
    metrics: Iterable[Metric],
    model_target: str,
    fixed: Mapping[str, Any],
    search_space: Mapping[str, Any],
    **run: Any,
) -> Stamp:
    """Return the stamp of a study. Trials are comparable, and share a study, only if their stamps are the same.

    Parameters
    ----------
    metrics
        The metrics of the objective.
    fixed
        Hyperparameters that are not searched.
    run
        ``task``, ``model`` and ``seed``.
    """
    trained = training_stamp(inputs, data, trainer, model_target, fixed, **run)
    settings = {"prediction": prediction, "objective": hpo.objective, "search space": search_space}
    return trained.extend(settings=settings, code=prediction_code() | score_code(metrics))


def score_stamp(
    inputs: Mapping[str, str],
    metrics: Iterable[Metric],
    data: DataConfig,
    prediction: PredictionConfig,
    evaluation: EvaluationConfig,
    task: str,
) -> Stamp:
    """Return the stamp of scores, without the prediction that is scored: it is the same for all models and seeds."""
    metrics = list(metrics)
    settings = {
        # The names of the metrics, because the list of a profile may change later.
        "metrics": [metric.name for metric in metrics],
        "evaluation": evaluation.model_dump(include={"negative", "missing"}),
        "prediction": _evaluated_part(prediction),
        "keys": data.keys.__dict__,
    }
    return Stamp.make(task, inputs=inputs, settings=settings, code=score_code(metrics))


def require_current_checkpoint(checkpoint: Mapping[str, Any], prepared: ad.AnnData, split: pd.DataFrame) -> Stamp:
    """Return the stamp of a checkpoint; log a warning if the code has changed since it was trained.

    Raises
    ------
    PerturbenchError
        If it was trained on cells, a split or an embedding other than the current ones.
    """
    stamp = Stamp.read(checkpoint)
    if stamp is None:
        raise PerturbenchError("the checkpoint has no readable stamp; train the model again.")
    current = Stamp.make(inputs=current_inputs(prepared, split, used_embedding(stamp)))
    if changed := current.conflicts(stamp):
        raise PerturbenchError(
            f"the data changed since the checkpoint was trained: {'; '.join(changed)}. Train again: "
            f"{_modeling_command(stamp, stamp.task)}"
        )
    _warn_of_other_code(stamp)
    return stamp


def require_current_prediction(
    stamp: Stamp, inputs: Mapping[str, str], prepared: ad.AnnData, prediction: PredictionConfig, task: str
) -> None:
    """Refuse a prediction that was made from other cells or another split, or for another part of the split.

    Parameters
    ----------
    stamp
        The stamp of the prediction.
    inputs
        Fingerprints of the current cells and split.
    prepared
        The current cells, with the embedding that the prediction used.
    prediction, task
        The part of the split and the task that are evaluated.

    Raises
    ------
    PerturbenchError
        If they differ; the message has the command that predicts again.
    """
    used = used_embedding(stamp)
    # Scores do not depend on embeddings, so an embedding that the cells no longer have is no reason to refuse.
    embedding = embedding_input(prepared, used if used in prepared.obsm else None)
    current = Stamp.make(inputs={**inputs, **embedding}, settings={"prediction": _evaluated_part(prediction)})
    if changed := current.conflicts(stamp):
        raise PerturbenchError(
            f"the prediction does not belong to this evaluation: {'; '.join(changed)} changed since it was made. "
            f"Predict again: {_modeling_command(stamp, task)}"
        )


def stamp_text(container: Mapping[Any, Any]) -> str:
    """Return the stamp of cells or of a table as text; the text is empty if there is no stamp."""
    text = container.get(KEY, "")
    return text if isinstance(text, str) else ""


def _warn_of_other_code(trained: Stamp) -> None:
    now = Stamp.make(code=training_code(trained.settings["model"]["class"]))
    if changed := now.differences(Stamp.make(code=trained.code)):
        logger.warning(
            "changed since the checkpoint was trained: %s. If that matters, train again: %s",
            "; ".join(changed),
            _modeling_command(trained, trained.task),
        )


def _evaluated_part(prediction: PredictionConfig) -> dict[str, Any]:
    return prediction.model_dump(include={"part", "controls"})


def _modeling_command(stamp: Stamp, task: str | None) -> str:
    return f"kedro run --pipeline=modeling --params=task:{task},model:{stamp.model},seed:{stamp.seed}"
