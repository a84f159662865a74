"""Draw and write the report of a task."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pandas as pd
import plotly.graph_objects as go

from perturbench import __version__
from perturbench.analysis.score_table import tables_by_model, valid_predictions, valid_scores
from perturbench.config.sections import EvaluationConfig, ReportingConfig
from perturbench.pipelines.metrics import configured_metrics
from perturbench.provenance import KEY, Stamp

if TYPE_CHECKING:
    from perturbench.analysis.report.comparability import Origin

Tables = dict[str, Callable[[], pd.DataFrame]]
_PACKAGES = ("torch", "lightning", "anndata", "scanpy", "numpy", "pandas", "kedro")


def plot_leaderboard(leaderboard: pd.DataFrame, anchors: pd.DataFrame, evaluation: EvaluationConfig) -> go.Figure:
    """Draw the mean scores of every model, with their confidence intervals."""
    from perturbench.analysis.figures import plot_ranking

    return plot_ranking(leaderboard, configured_metrics(evaluation), anchors)


def plot_perturbations(
    scores: Tables, evaluation_log: pd.DataFrame, leaderboard: pd.DataFrame, evaluation: EvaluationConfig
) -> go.Figure:
    """Draw the distribution of every model's scores over perturbations."""
    from perturbench.analysis.figures import plot_scores

    table = valid_scores(scores, evaluation_log)
    return plot_scores(table, configured_metrics(evaluation), list(leaderboard["model"]))


def plot_collapse(similarities: Tables, evaluation_log: pd.DataFrame, leaderboard: pd.DataFrame) -> go.Figure:
    """Draw the predicted next to the observed similarities, for the first seed of each of the best models."""
    from perturbench.analysis.figures import plot_similarities
    from perturbench.analysis.figures.similarities import MAX_MODELS

    by_model = tables_by_model(similarities, evaluation_log, list(leaderboard["model"]))
    return plot_similarities({model: similarities[by_model[model][0]]() for model in list(by_model)[:MAX_MODELS]})


def plot_losses(training_losses: Tables, evaluation_log: pd.DataFrame, leaderboard: pd.DataFrame) -> go.Figure:
    """Draw the training and validation losses of the models that are trained in epochs."""
    from perturbench.analysis.figures import plot_training

    by_model = tables_by_model(training_losses, evaluation_log, list(leaderboard["model"]))
    return plot_training(
        {model: {name: training_losses[name]() for name in names} for model, names in by_model.items()}
    )


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
    examples_plot: go.Figure,
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
    """Return the report of a task as an html page."""
    from perturbench.analysis.report import render_page, sections

    metrics, models = [metric.name for metric in configured_metrics(evaluation)], list(leaderboard["model"])
    run = {task: task in leaderboards for task in reporting.series}
    series = [[task for task in run if run[task] is known] for known in (True, False)]
    shown = [
        sections.leaderboard(leaderboard, leaderboard_plot, anchors, comparisons, baseline_tests),
        sections.published(leaderboard, task, _origin(data_card, scores, evaluation_log), _commands(evaluation_log)),
        sections.perturbations(scores_plot, metrics),
        sections.states(state_scores, metrics, models),
        sections.similarities(similarity_plot),
        sections.examples(examples_plot),
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


def _facts(scores: Tables, evaluation_log: pd.DataFrame, evaluation: EvaluationConfig) -> dict[str, Any]:
    """Return the fingerprints, parameters and versions that the results depend on."""
    cells, split = _stamps_of_data(scores, evaluation_log)
    facts = {
        "raw data (sha256)": cells.inputs.get("raw data", "unknown") if cells else "unknown",
        "preprocessing": _settings(cells, "preprocessing"),
        "split": _settings(split, "splitter"),
        "evaluation": evaluation.model_dump_json(),
        "perturbench": __version__,
        "python": platform.python_version(),
    }
    return facts | {package: version(package) for package in _PACKAGES}


def _origin(data_card: dict[str, Any], scores: Tables, evaluation_log: pd.DataFrame) -> Origin:
    """Return where the cells and the split of the report come from."""
    from perturbench.analysis.report.comparability import Origin

    _, split = _stamps_of_data(scores, evaluation_log)
    return Origin(
        source=data_card.get("source kind", "unknown"),
        cells=data_card.get("cells"),
        published_cells=data_card.get("published cells"),
        splitter=split.settings.get("splitter", {}) if split else {},
    )


def _commands(evaluation_log: pd.DataFrame) -> dict[str, list[str]]:
    """Return the commands that made the valid predictions of each model."""
    valid = evaluation_log[evaluation_log["prediction"].isin(valid_predictions(evaluation_log))]
    return valid["command"].fillna("").groupby(valid["model"]).agg(list).to_dict()


def _stamps_of_data(scores: Tables, evaluation_log: pd.DataFrame) -> list[Stamp | None]:
    """Return the stamps of the prepared cells and of the split that the scores were computed with."""
    valid = valid_predictions(evaluation_log)
    made_from = scores[valid[0]]().attrs.get("made_from", {}) if valid else {}
    return [Stamp.read({KEY: made_from.get(name)}) for name in ("cells", "split")]


def _settings(stamp: Stamp | None, section: str) -> str:
    return json.dumps(stamp.settings.get(section)) if stamp else "unknown"
