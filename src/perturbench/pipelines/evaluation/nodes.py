"""Score every prediction of a task that has no up-to-date score, and rank the models."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

import anndata as ad
import pandas as pd

from perturbench.config import DataConfig, EvaluationConfig, PredictionConfig
from perturbench.errors import PerturbenchError
from perturbench.provenance import KEY, fingerprint_adata, fingerprint_frame, fingerprint_parameters, stamp

logger = logging.getLogger(__name__)
EVALUATED, UP_TO_DATE, REFUSED, ORPHAN = "evaluated", "up to date", "refused", "prediction is gone"


def evaluate_predictions(
    predictions: dict[str, Callable[[], ad.AnnData]],
    known_scores: dict[str, Callable[[], pd.DataFrame]],
    prepared: ad.AnnData,
    split: pd.DataFrame,
    data: DataConfig,
    prediction: PredictionConfig,
    evaluation: EvaluationConfig,
    task: str,
) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """Return new scores by partition, and a log of what was evaluated, skipped or refused, and why."""
    from tqdm import tqdm

    from perturbench.analysis.statistics import Reference
    from perturbench.data.datamodule import align_split, evaluation_rows
    from perturbench.data.groups import Groups

    metrics = chosen_metrics(evaluation)
    labels = align_split(split["split"], prepared.obs_names)
    groups = Groups.from_obs(prepared.obs, data.keys)
    rows = evaluation_rows(labels, groups, prediction.part, prediction.controls)
    reference = Reference(prepared[rows], data.keys)
    settings = [evaluation, data.keys.__dict__, prediction.part, prediction.controls]
    made_from = fingerprint_parameters([fingerprint_adata(prepared), fingerprint_frame(split), *settings])
    scores, log = {}, []
    for name in tqdm(sorted(predictions), desc="Evaluating", disable=not sys.stderr.isatty()):
        model, seed = model_and_seed(name)
        status, reason = EVALUATED, "new"
        adata = predictions[name]()
        made_by = {"prediction": fingerprint_adata(adata), "reference": made_from}
        if name in known_scores:
            before = known_scores[name]().attrs.get(KEY, {})
            changed = [what for what, value in made_by.items() if before.get(what) != value]
            status, reason = (
                (EVALUATED, f"changed: {', '.join(changed)}") if changed else (UP_TO_DATE, "nothing changed")
            )
        if status == EVALUATED:
            try:
                frame = _score(adata, reference, metrics, model, evaluation)
            except PerturbenchError as error:
                status, reason = REFUSED, str(error)
            else:
                frame.insert(1, "seed", pd.array([seed] * len(frame), dtype="Int64"))
                frame.attrs[KEY] = stamp(task=task, model=model, seed=seed, **made_by)
                scores[name] = frame
        if adata.isbacked:
            adata.file.close()
        logger.log(logging.ERROR if status == REFUSED else logging.INFO, "%s: %s (%s)", name, status, reason)
        log.append({"prediction": name, "model": model, "status": status, "reason": reason})
    if all(row["status"] == REFUSED for row in log):
        raise PerturbenchError(f"every prediction of task '{task}' was refused; the first: {log[0]['reason']}")
    log += [
        {"prediction": name, "model": model_and_seed(name)[0], "status": ORPHAN, "reason": "its scores are left out"}
        for name in sorted(set(known_scores) - set(predictions))
    ]
    return scores, pd.DataFrame(log)


def rank_models(
    scores: dict[str, Callable[[], pd.DataFrame]], evaluation_log: pd.DataFrame, evaluation: EvaluationConfig
) -> pd.DataFrame:
    """Return the leaderboard of all valid scores."""
    from perturbench.analysis.leaderboard import leaderboard

    return leaderboard(valid_scores(scores, evaluation_log), chosen_metrics(evaluation))


def valid_scores(scores: dict[str, Callable[[], pd.DataFrame]], evaluation_log: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of all predictions that are there and were not refused, in one table."""
    valid = evaluation_log.loc[evaluation_log["status"].isin([EVALUATED, UP_TO_DATE]), "prediction"]
    return pd.concat([scores[name]() for name in valid], ignore_index=True)


def chosen_metrics(evaluation: EvaluationConfig) -> list[Any]:
    """Return the metrics of the settings, after importing the modules that register more."""
    from importlib import import_module

    from perturbench.analysis.metrics import resolve_metrics

    for plugin in evaluation.plugins:
        try:
            import_module(plugin)
        except ImportError as error:
            raise PerturbenchError(f"evaluation.plugins: module '{plugin}' cannot be imported: {error}.") from error
    return resolve_metrics(evaluation.metrics)


def model_and_seed(partition: str) -> tuple[str, int | None]:
    """Return the model and seed of ``<model>/seed<k>``; any other name is a model of its own, without a seed."""
    model, _, seed = partition.rpartition("/seed")
    return (model, int(seed)) if model and seed.isdigit() else (partition, None)


def _score(
    adata: ad.AnnData, reference: Any, metrics: list[Any], model: str, evaluation: EvaluationConfig
) -> pd.DataFrame:
    from perturbench.analysis.evaluation import score
    from perturbench.analysis.statistics import Prediction

    prediction = Prediction.from_adata(adata, reference, model, evaluation.negative, evaluation.missing)
    return score(prediction, reference, metrics)
