"""Score every prediction of a task that has no up-to-date score, and rank the models."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

import anndata as ad
import pandas as pd
from kedro.io.core import DatasetError

from perturbench.config.sections import DataConfig, EvaluationConfig, PredictionConfig
from perturbench.errors import PerturbenchError
from perturbench.pipelines.inputs import changed_inputs, current_inputs, embedding_input, used_embedding
from perturbench.provenance import KEY, fingerprint_adata, fingerprint_code, fingerprint_parameters, stamp

logger = logging.getLogger(__name__)
EVALUATED, UP_TO_DATE, REFUSED, ORPHAN = "evaluated", "up to date", "refused", "prediction is gone"
VALID = (EVALUATED, UP_TO_DATE)


def evaluate_predictions(
    predictions: dict[str, Callable[[], ad.AnnData]],
    known_scores: dict[str, Callable[[], pd.DataFrame]],
    prepared: ad.AnnData,
    split: pd.DataFrame,
    data: DataConfig,
    prediction: PredictionConfig,
    evaluation: EvaluationConfig,
    task: str,
) -> tuple[dict[str, pd.DataFrame], pd.DataFrame, pd.DataFrame, dict[str, pd.DataFrame]]:
    """Return new scores by partition, what was evaluated, skipped or refused and why, the anchors, and similarities."""
    from tqdm import tqdm

    from perturbench.analysis.anchors import anchor_scores
    from perturbench.analysis.profiles import Reference
    from perturbench.data.groups import Groups
    from perturbench.data.labels import align_split, evaluation_rows

    metrics = configured_metrics(evaluation)
    labels = align_split(split["split"], prepared.obs_names)
    groups = Groups.from_obs(prepared.obs, data.keys)
    rows = evaluation_rows(labels, groups, prediction.part, prediction.controls)
    reference = Reference(prepared[rows], data.keys)
    inputs = current_inputs(prepared, split)
    settings = [evaluation, data.keys.__dict__, prediction.part, prediction.controls]
    made_from = fingerprint_parameters([inputs, *settings, fingerprint_code(evaluation.plugins)])
    made_by_inputs = {"prepared": _stamp_of(prepared.uns), "split": _stamp_of(split.attrs)}
    scores, similarities, log = {}, {}, []
    for name in tqdm(sorted(predictions), desc="Evaluating", disable=not sys.stderr.isatty()):
        model, seed = model_and_seed(name)
        status, reason, origin = EVALUATED, "new", {}
        try:
            adata = _load(predictions[name], name)
            before = known_scores[name]().attrs.get(KEY, {}) if name in known_scores else None
            made_by = {"prediction": fingerprint_adata(adata), "reference": made_from}
            origin = _stamp_of(adata.uns)
            used = used_embedding(origin)
            # An embedding that the cells do not have now is none that has changed: it takes no part in the scores.
            embedding = embedding_input(prepared, used if used in prepared.obsm else None)
            _require_fresh(origin, inputs | embedding, prediction, task)
            changed = [what for what, value in made_by.items() if before and before.get(what) != value]
            if before and not changed:
                status, reason = UP_TO_DATE, "nothing changed"
            else:
                reason = f"changed: {', '.join(changed)}" if changed else reason
                frame, similarities[name] = _score(adata, reference, metrics, model, evaluation)
                frame.insert(1, "seed", pd.array([seed] * len(frame), dtype="Int64"))
                frame.attrs[KEY] = stamp(task=task, model=model, seed=seed, inputs=made_by_inputs, **made_by)
                scores[name] = frame
            if adata.isbacked:
                adata.file.close()
        except PerturbenchError as error:
            status, reason = REFUSED, str(error)
        logger.log(logging.ERROR if status == REFUSED else logging.INFO, "%s: %s (%s)", name, status, reason)
        made_with = {"hyperparameters": str(origin.get("hparams", "")), "command": str(origin.get("command", ""))}
        log.append({"prediction": name, "model": model, "status": status, "reason": reason, **made_with})
    if all(row["status"] == REFUSED for row in log):
        raise PerturbenchError(f"every prediction of task '{task}' was refused; the first: {log[0]['reason']}")
    orphan = {"status": ORPHAN, "reason": "its scores are left out", "hyperparameters": "", "command": ""}
    log += [
        {"prediction": name, "model": model_and_seed(name)[0], **orphan}
        for name in sorted(set(known_scores) - set(predictions))
    ]
    anchors = anchor_scores(prepared[rows], prepared[labels == "train"], data.keys, metrics)
    return scores, pd.DataFrame(log), anchors.assign(seed=0), similarities


def rank_models(
    scores: dict[str, Callable[[], pd.DataFrame]],
    evaluation_log: pd.DataFrame,
    anchor_scores: pd.DataFrame,
    evaluation: EvaluationConfig,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the leaderboard of all valid scores, that of the anchors, paired tests, and means per state.

    The tests are between the models, and of each against the baseline.
    """
    from perturbench.analysis.anchors import BASELINE
    from perturbench.analysis.inference.uncertainty import compare_with_baseline, paired_tests
    from perturbench.analysis.leaderboard import leaderboard
    from perturbench.analysis.score_table import per_state

    metrics, valid = configured_metrics(evaluation), valid_scores(scores, evaluation_log)
    board = leaderboard(valid, metrics, anchor_scores)
    of_anchors = leaderboard(anchor_scores, metrics, anchor_scores)
    against_baseline = compare_with_baseline(valid, anchor_scores[anchor_scores["model"] == BASELINE])
    return board, of_anchors, paired_tests(valid), against_baseline, per_state(valid)


def valid_scores(scores: dict[str, Callable[[], pd.DataFrame]], evaluation_log: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of all predictions that are there and were not refused, in one table."""
    valid = evaluation_log.loc[evaluation_log["status"].isin(VALID), "prediction"]
    return pd.concat([scores[name]() for name in valid], ignore_index=True)


def configured_metrics(evaluation: EvaluationConfig) -> list[Any]:
    """Return the metrics of the settings, after importing the modules that register more."""
    from importlib import import_module

    from perturbench.analysis.metrics.registry import resolve_metrics

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


def _load(load: Callable[[], ad.AnnData], name: str) -> ad.AnnData:
    try:
        adata = load()
    except (DatasetError, OSError) as error:
        raise PerturbenchError(f"'{name}' cannot be read as h5ad: {error}") from error
    try:
        empty = adata.X is None
    except KeyError:  # what a backed file without X raises
        empty = True
    if empty:
        raise PerturbenchError(f"'{name}' has no X; predicted expression must be there.")
    return adata


def _stamp_of(facts: Any) -> dict[str, Any]:
    made_by = facts.get(KEY, {})
    return dict(made_by) if isinstance(made_by, Mapping) else {}


def _require_fresh(
    made_by: Mapping[str, Any], inputs: Mapping[str, str], prediction: PredictionConfig, task: str
) -> None:
    """Refuse a prediction whose stamp names other cells, another split or another part than are evaluated now."""
    changed = changed_inputs(made_by, inputs)
    settings = json.loads(made_by.get("prediction", "{}"))
    changed += [
        key for key in ("part", "controls") if settings.get(key, getattr(prediction, key)) != getattr(prediction, key)
    ]
    if changed:
        raise PerturbenchError(
            f"it was made from another {' and '.join(changed)} than there is now; predict again: kedro run "
            f"--pipeline=modeling --params=task:{task},model:{made_by.get('model')},seed:{made_by.get('seed')}"
        )


def _score(
    adata: ad.AnnData, reference: Any, metrics: list[Any], model: str, evaluation: EvaluationConfig
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the scores of a prediction, and how alike its perturbations are."""
    from perturbench.analysis.evaluation import score
    from perturbench.analysis.metrics.collapse import similarity_table
    from perturbench.analysis.profiles import Prediction

    prediction = Prediction.from_adata(adata, reference, model, evaluation.negative, evaluation.missing)
    return score(prediction, reference, metrics), similarity_table(reference, prediction)
