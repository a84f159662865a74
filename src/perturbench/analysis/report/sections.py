"""The sections of the report: each function turns the results of a stage into the content of a template.

To add a section, write a function here and a template, and name it in the node that writes the report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perturbench.analysis.anchors import BASELINE
from perturbench.analysis.figures.theme import ARROWS, MAX_PANELS
from perturbench.analysis.inference.best_model import SIGNIFICANCE, BestModel, better_than_baseline, find_best
from perturbench.analysis.leaderboard import format_leaderboard
from perturbench.analysis.metrics.registry import available_metrics
from perturbench.analysis.report import tables
from perturbench.analysis.report.page import Section
from perturbench.analysis.report.published import beside_published, published_results
from perturbench.analysis.report.verdict import headline, verdicts
from perturbench.analysis.score_table import metric_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    import plotly.graph_objects as go

    from perturbench.analysis.report.comparability import Origin

#: Tables with at most this many rows are unfolded when the page opens.
MAX_OPEN_ROWS = 40
#: Largest number of paired tests to show; if there are more, only those with the best model are shown.
MAX_TESTS = 200


def leaderboard(
    board: pd.DataFrame,
    figure: go.Figure | None = None,
    anchors: pd.DataFrame | None = None,
    comparisons: pd.DataFrame | None = None,
    baseline_tests: pd.DataFrame | None = None,
) -> Section:
    """Show the leaderboard: means, intervals and normalised values, and the results of paired tests.

    Parameters
    ----------
    board, anchors
        Leaderboards of the models and of the anchors, see :func:`perturbench.analysis.leaderboard.leaderboard`.
    figure
        Figure of the leaderboard, see :func:`perturbench.analysis.figures.plot_ranking`.
    comparisons
        Tests between models, see :func:`perturbench.analysis.inference.uncertainty.paired_tests`.
    baseline_tests
        Tests against the baseline, see :func:`perturbench.analysis.inference.uncertainty.compare_with_baseline`.
    """
    text, known = format_leaderboard(board), available_metrics()
    best, better = find_best(board, comparisons), better_than_baseline(baseline_tests, list(board["model"]))
    tests = _tests_of_best_models(comparisons, best)
    content = {
        "columns": list(text.columns),
        "arrows": {name: ARROWS[known[name].better] for name in metric_names(board) if name in known},
        "rows": text.to_dict("records"),
        "intervals": tables.intervals(board),
        "normalised": tables.normalised(board),
        "anchors": [] if anchors is None else format_leaderboard(anchors).to_dict("records"),
        "best": {name: entry.model for name, entry in best.items() if not entry.contenders},
        "contenders": {name: (entry.model, *entry.contenders) for name, entry in best.items() if entry.contenders},
        "headline": headline(better, len(board), BASELINE),
        "verdicts": verdicts(metric_names(board), best, better) if best or better else [],
        "significance": SIGNIFICANCE,
        "undefined": tables.undefined(board),
        "comparisons": tables.records(tests),
        "comparisons_left_out": 0 if comparisons is None or tests is None else len(comparisons) - len(tests),
        "figure": figure,
    }
    return Section("Leaderboard", "leaderboard.html.jinja", content)


def published(
    board: pd.DataFrame, task: str, origin: Origin | None = None, commands: Mapping[str, Sequence[str]] | None = None
) -> Section | None:
    """Show the values of this report beside those that the paper published, if it has the task.

    See :func:`perturbench.analysis.report.published.beside_published`.
    """
    rows = tables.records(beside_published(board, task, origin, commands))
    content = {
        "rows": rows,
        "source": published_results()["source"],
        "slice": origin.development_slice if origin else None,
    }
    return Section("Published", "published.html.jinja", content) if rows else None


def perturbations(figure: go.Figure, metrics: Sequence[str]) -> Section:
    """Show the spread of scores over perturbations, see :func:`perturbench.analysis.figures.plot_scores`."""
    content = {"figure": figure, "left_out": list(metrics)[MAX_PANELS:]}
    return Section("Scores per perturbation", "perturbations.html.jinja", content)


def states(state_scores: pd.DataFrame, metrics: Sequence[str], models: Sequence[str]) -> Section | None:
    """Show the means in each state, if there are several states.

    See :func:`perturbench.analysis.score_table.per_state`.
    """
    metrics = [name for name in metrics if (state_scores["metric"] == name).any()]
    keys = [name for name in state_scores.columns if name not in ("model", "metric", "mean", "standard_error", "n")]
    if not keys or len(state_scores[keys].drop_duplicates()) < 2:
        return None
    content = {"tables": [tables.by_state(state_scores, name, models) for name in metrics]}
    return Section("Scores per state", "states.html.jinja", content)


def similarities(figure: go.Figure) -> Section | None:
    """Show predicted and observed similarities, see :func:`perturbench.analysis.figures.plot_similarities`."""
    return _figure_section("Collapse", "similarities.html.jinja", figure)


def examples(figure: go.Figure) -> Section | None:
    """Show a few predictions in detail, see :func:`perturbench.analysis.figures.plot_examples`."""
    return _figure_section("Examples", "examples.html.jinja", figure, **(figure.layout.meta or {}))


def series(figure: go.Figure, against: str, tasks: Sequence[str], absent: Sequence[str]) -> Section | None:
    """Show scores over a series of tasks, see :func:`perturbench.analysis.figures.plot_series`.

    Parameters
    ----------
    figure
        Figure of the tasks that have a leaderboard.
    against
        What the tasks differ in: ``imbalance`` or ``training_cells``.
    tasks, absent
        Names of the tasks of the series with a leaderboard, and of those without one.
    """
    title = {"imbalance": "Imbalance", "training_cells": "Scaling"}[against]
    content = {"against": against, "tasks": list(tasks), "absent": list(absent)}
    return _figure_section(title, "series.html.jinja", figure, **content) if tasks else None


def training(figure: go.Figure) -> Section | None:
    """Show training and validation losses, see :func:`perturbench.analysis.figures.plot_training`."""
    return _figure_section("Training", "training.html.jinja", figure)


def data(card: Mapping[str, Any] | None) -> Section | None:
    """Show the data card, without entries whose value is unknown."""
    if not card:
        return None
    facts = {name: value for name, value in card.items() if value is not None and name != "states"}
    return Section("Data", "data.html.jinja", {"card": facts, "states": card.get("states", []), "limit": MAX_OPEN_ROWS})


def split(summary: pd.DataFrame, checks: pd.DataFrame) -> Section:
    """Show the parts of the split, and the results of its checks.

    See :func:`perturbench.data.splits.split_summary` and :func:`perturbench.data.splits.split_checks`.
    """
    content = {"checks": tables.records(checks), "rows": tables.records(summary), "limit": MAX_OPEN_ROWS}
    return Section("Split", "split.html.jinja", content)


def predictions(log: pd.DataFrame, task: str) -> Section:
    """Show which predictions were evaluated or refused and why, and the command that makes each one.

    Parameters
    ----------
    log
        Columns ``prediction``, ``status``, ``reason``, ``hyperparameters`` and ``command``, which is empty for files
        that no run of the project made.
    task
        Name of the task.
    """
    content = {"rows": tables.records(log), "task": task}
    return Section("Predictions and their commands", "predictions.html.jinja", content)


def provenance(facts: Mapping[str, Any], command: str | None = None) -> Section:
    """Show the versions and parameters behind the results, and the command that writes the page."""
    return Section("Provenance", "provenance.html.jinja", {"facts": facts, "command": command})


def _tests_of_best_models(comparisons: pd.DataFrame | None, best: Mapping[str, BestModel]) -> pd.DataFrame | None:
    """Return all tests, or only those of the model with the best mean if there are too many to read."""
    if comparisons is None or len(comparisons) <= MAX_TESTS:
        return comparisons
    model = comparisons["metric"].map({name: entry.model for name, entry in best.items()})
    return comparisons[(comparisons["model"] == model) | (comparisons["other"] == model)]


def _figure_section(title: str, template: str, figure: go.Figure, **content: Any) -> Section | None:
    """Return a section with a figure; ``None`` if the figure is empty."""
    return Section(title, template, {"figure": figure, **content}) if figure.data else None
