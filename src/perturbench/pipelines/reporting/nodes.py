"""Draw and write the report of a task."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from perturbench import __version__
from perturbench.config.sections import EvaluationConfig, ReportingConfig
from perturbench.pipelines.evaluation.nodes import VALID, configured_metrics, model_and_seed, valid_scores
from perturbench.provenance import KEY

Tables = dict[str, Callable[[], pd.DataFrame]]
_PACKAGES = ("torch", "lightning", "anndata", "scanpy", "numpy", "pandas", "kedro")


def plot_leaderboard(leaderboard: pd.DataFrame, anchors: pd.DataFrame, evaluation: EvaluationConfig) -> go.Figure:
    """Draw the means and intervals of every model."""
    from perturbench.analysis.figures import plot_ranking

    return plot_ranking(leaderboard, configured_metrics(evaluation), anchors)


def plot_perturbations(
    scores: Tables, evaluation_log: pd.DataFrame, leaderboard: pd.DataFrame, evaluation: EvaluationConfig
) -> go.Figure:
    """Draw the scores of every model over perturbations."""
    from perturbench.analysis.figures import plot_scores

    table = valid_scores(scores, evaluation_log)
    return plot_scores(table, configured_metrics(evaluation), list(leaderboard["model"]))


def plot_collapse(similarities: Tables, evaluation_log: pd.DataFrame, leaderboard: pd.DataFrame) -> go.Figure:
    """Draw predicted beside observed similarities, of the first seed of each of the best models."""
    from perturbench.analysis.figures import plot_similarities
    from perturbench.analysis.figures.similarities import MAX_MODELS

    names = {model: next(iter(seeds)) for model, seeds in _by_model(similarities, evaluation_log, leaderboard).items()}
    return plot_similarities({model: similarities[names[model]]() for model in list(names)[:MAX_MODELS]})


def plot_losses(training_losses: Tables, evaluation_log: pd.DataFrame, leaderboard: pd.DataFrame) -> go.Figure:
    """Draw the training and validation losses of the models that are trained in epochs."""
    from perturbench.analysis.figures import plot_training

    names = _by_model(training_losses, evaluation_log, leaderboard)
    return plot_training({model: {name: training_losses[name]() for name in seeds} for model, seeds in names.items()})


def plot_tasks(
    leaderboards: Tables,
    split_summaries: Tables,
    leaderboard: pd.DataFrame,
    evaluation: EvaluationConfig,
    reporting: ReportingConfig,
) -> go.Figure:
    """Draw the models over the series of tasks."""
    from perturbench.analysis.figures import plot_series
    from perturbench.analysis.figures.series import position_of

    run = [task for task in reporting.series if task in leaderboards and task in split_summaries]
    positions = {task: position_of(split_summaries[task](), reporting.against) for task in run}
    boards = {task: leaderboards[task]() for task in run}
    return plot_series(boards, positions, reporting.against, configured_metrics(evaluation), list(leaderboard["model"]))


def write_report(
    scores: Tables,
    leaderboard: pd.DataFrame,
    anchors: pd.DataFrame,
    comparisons: pd.DataFrame,
    baseline_tests: pd.DataFrame,
    state_scores: pd.DataFrame,
    leaderboard_plot: go.Figure,
    scores_plot: go.Figure,
    similarity_plot: go.Figure,
    series_plot: go.Figure,
    training_plot: go.Figure,
    data_card: dict[str, Any],
    split_summary: pd.DataFrame,
    split_checks: pd.DataFrame,
    evaluation_log: pd.DataFrame,
    leaderboards: Tables,
    evaluation: EvaluationConfig,
    reporting: ReportingConfig,
    task: str,
    title: str,
) -> str:
    """Return the page."""
    from perturbench.analysis.report import render_page, sections

    metrics, models = [metric.name for metric in configured_metrics(evaluation)], list(leaderboard["model"])
    run = {task: task in leaderboards for task in reporting.series}
    series = [[task for task in run if run[task] is known] for known in (True, False)]
    shown = [
        sections.leaderboard(leaderboard, leaderboard_plot, anchors, comparisons, baseline_tests),
        sections.published(leaderboard, task),
        sections.perturbations(scores_plot, metrics),
        sections.states(state_scores, metrics, models),
        sections.similarities(similarity_plot),
        sections.series(series_plot, reporting.against, *series),
        sections.training(training_plot),
        sections.data(data_card),
        sections.split(split_summary, split_checks),
        sections.predictions(evaluation_log, task),
        sections.provenance(
            _facts(scores, evaluation_log, evaluation),
            f"kedro run --pipelines=evaluation,reporting --params=task:{task}",
        ),
    ]
    return render_page(title, task, shown)


def _by_model(tables: Tables, evaluation_log: pd.DataFrame, leaderboard: pd.DataFrame) -> dict[str, list[str]]:
    """Return the names of the tables of valid predictions by model, models in the order of the leaderboard."""
    valid = set(evaluation_log.loc[evaluation_log["status"].isin(VALID), "prediction"])
    names = sorted(valid & set(tables), key=lambda name: (model_and_seed(name)[0], model_and_seed(name)[1] or 0))
    by_model: dict[str, list[str]] = {model: [] for model in leaderboard["model"]}
    for name in names:
        by_model[model_and_seed(name)[0]].append(name)
    return {model: names for model, names in by_model.items() if names}


def _facts(scores: Tables, evaluation_log: pd.DataFrame, evaluation: EvaluationConfig) -> dict[str, Any]:
    """Return what made the results: fingerprints, parameters and versions."""
    made_by = _made_by(scores, evaluation_log)
    facts = {
        "raw data (sha256)": made_by["prepared"].get("raw", "unknown"),
        "preprocessing": made_by["prepared"].get("parameters", "unknown"),
        "split": made_by["split"].get("parameters", "unknown"),
        "evaluation": evaluation.model_dump_json(),
        "perturbench": __version__,
        "python": platform.python_version(),
    }
    return facts | {package: version(package) for package in _PACKAGES}


def _made_by(scores: Tables, evaluation_log: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return the stamps of the prepared cells and the split that the scores were computed with."""
    for name in evaluation_log.loc[evaluation_log["status"].isin(VALID), "prediction"]:
        inputs = scores[name]().attrs.get(KEY, {}).get("inputs", {})
        return {what: dict(inputs.get(what, {})) for what in ("prepared", "split")}
    return {"prepared": {}, "split": {}}
