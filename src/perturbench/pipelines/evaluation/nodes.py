"""Score every prediction of a task that has no up-to-date scores, and rank the models."""

from __future__ import annotations

import sys
from collections.abc import Callable

import anndata as ad
import pandas as pd

from perturbench.analysis.score_table import valid_scores
from perturbench.config.sections import DataConfig, EvaluationConfig, PredictionConfig
from perturbench.pipelines.evaluation.scoring import Scorer, evaluation_log, seeds_of_the_same_model
from perturbench.pipelines.metrics import configured_metrics
from perturbench.pipelines.stamps import stamp_text


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
    """Score each prediction without up-to-date scores.

    Returns the new scores by prediction, the evaluation log, the anchors' scores, and the similarities by prediction.
    """
    from tqdm import tqdm

    scorer = Scorer(prepared, split, configured_metrics(evaluation), data, prediction, evaluation, task)
    names = tqdm(sorted(predictions), desc="Evaluating", disable=not sys.stderr.isatty())
    others = {name: seeds_of_the_same_model(name, predictions) for name in predictions}
    outcomes = {name: scorer(name, predictions[name], known_scores.get(name), others[name]) for name in names}
    log = evaluation_log(outcomes, known_scores, task)
    scores = {name: outcome.scores for name, outcome in outcomes.items() if outcome.scores is not None}
    similarities = {name: found.similarities for name, found in outcomes.items() if found.similarities is not None}
    for table in scores.values():
        # The report reads these stamps to show how the cells and the split were made.
        table.attrs["made_from"] = {"cells": stamp_text(prepared.uns), "split": stamp_text(split.attrs)}
    return scores, log, scorer.anchors(), similarities


def rank_models(
    scores: dict[str, Callable[[], pd.DataFrame]],
    evaluation_log: pd.DataFrame,
    anchor_scores: pd.DataFrame,
    evaluation: EvaluationConfig,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Rank the models by all valid scores.

    Returns the leaderboard, the anchors' leaderboard, paired tests between models, tests of each model against the
    baseline, and means per state.
    """
    from perturbench.analysis.anchors import BASELINE
    from perturbench.analysis.inference.uncertainty import compare_with_baseline, paired_tests
    from perturbench.analysis.leaderboard import leaderboard
    from perturbench.analysis.score_table import per_state

    metrics, valid = configured_metrics(evaluation), valid_scores(scores, evaluation_log)
    board = leaderboard(valid, metrics, anchor_scores)
    anchors = leaderboard(anchor_scores, metrics, anchor_scores)
    against_baseline = compare_with_baseline(valid, anchor_scores[anchor_scores["model"] == BASELINE])
    return board, anchors, paired_tests(valid), against_baseline, per_state(valid)
