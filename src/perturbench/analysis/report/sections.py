"""The sections of the report: each takes what a stage left behind, and says how to show it.

A new section is a function here, a template beside the others, and a line where the page is put together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perturbench.analysis.anchors import NULL
from perturbench.analysis.figures.theme import ARROWS, MAX_PANELS
from perturbench.analysis.inference.best_model import LEVEL, Best, better_than_baseline, find_best
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

#: Tables of this many rows or fewer are open.
OPEN = 40
#: With more paired tests than this only those with the best model are shown.
MAX_TESTS = 200


def leaderboard(
    board: pd.DataFrame,
    figure: go.Figure | None = None,
    anchors: pd.DataFrame | None = None,
    comparisons: pd.DataFrame | None = None,
    baseline_tests: pd.DataFrame | None = None,
) -> Section:
    """Rank the models: means, intervals and normalised values, and what tests allow to say of them.

    Parameters
    ----------
    board, anchors
        See :func:`perturbench.analysis.leaderboard.leaderboard`.
    figure
        See :func:`perturbench.analysis.figures.plot_ranking`.
    comparisons, baseline_tests
        See :func:`perturbench.analysis.inference.uncertainty.paired_tests` and
        :func:`perturbench.analysis.inference.uncertainty.compare_with_baseline`.
    """
    text, known = format_leaderboard(board), available_metrics()
    best, better = find_best(board, comparisons), better_than_baseline(baseline_tests, list(board["model"]))
    shown = _with_the_best(comparisons, best)
    content = {
        "columns": list(text.columns),
        "arrows": {name: ARROWS[known[name].better] for name in metric_names(board) if name in known},
        "rows": text.to_dict("records"),
        "intervals": tables.intervals(board),
        "normalised": tables.normalised(board),
        "anchors": [] if anchors is None else format_leaderboard(anchors).to_dict("records"),
        "best": {name: entry.model for name, entry in best.items() if not entry.alike},
        "alike": {name: (entry.model, *entry.alike) for name, entry in best.items() if entry.alike},
        "headline": headline(better, len(board), NULL),
        "verdicts": verdicts(metric_names(board), best, better) if best or better else [],
        "level": LEVEL,
        "undefined": tables.undefined(board),
        "comparisons": tables.records(shown),
        "comparisons_left_out": 0 if comparisons is None or shown is None else len(comparisons) - len(shown),
        "figure": figure,
    }
    return Section("Leaderboard", "leaderboard.html.jinja", content)


def published(board: pd.DataFrame, task: str) -> Section | None:
    """Set values beside those that the paper published for the task."""
    rows = tables.records(beside_published(board, task))
    content = {"rows": rows, "source": published_results()["source"]}
    return Section("Published", "published.html.jinja", content) if rows else None


def perturbations(figure: go.Figure, metrics: Sequence[str]) -> Section:
    """Show the spread of scores over perturbations, see :func:`perturbench.analysis.figures.plot_scores`."""
    content = {"figure": figure, "left_out": list(metrics)[MAX_PANELS:]}
    return Section("Scores per perturbation", "perturbations.html.jinja", content)


def states(state_scores: pd.DataFrame, metrics: Sequence[str], models: Sequence[str]) -> Section | None:
    """Show each metric's mean per state, see :func:`perturbench.analysis.evaluation.per_state`; not of a single one."""
    metrics = [name for name in metrics if (state_scores["metric"] == name).any()]
    keys = [name for name in state_scores.columns if name not in ("model", "metric", "mean", "standard_error", "n")]
    if not keys or len(state_scores[keys].drop_duplicates()) < 2:
        return None
    shown = [tables.by_state(state_scores, name, models) for name in metrics]
    return Section("Scores per state", "states.html.jinja", {"tables": shown})


def similarities(figure: go.Figure) -> Section | None:
    """Show predicted beside observed similarities, see :func:`perturbench.analysis.figures.plot_similarities`."""
    return _of_figure("Collapse", "similarities.html.jinja", figure)


def series(figure: go.Figure, against: str, tasks: Sequence[str], absent: Sequence[str]) -> Section | None:
    """Show scores over a series of tasks, see :func:`perturbench.analysis.figures.plot_series`.

    Parameters
    ----------
    figure
        Of the tasks that were run.
    against
        What the tasks differ in.
    tasks, absent
        Of the series; those that have no leaderboard yet.
    """
    title = {"imbalance": "Imbalance", "training_cells": "Scaling"}[against]
    content = {"against": against, "tasks": list(tasks), "absent": list(absent)}
    return _of_figure(title, "series.html.jinja", figure, **content) if tasks else None


def training(figure: go.Figure) -> Section | None:
    """Show losses per epoch, see :func:`perturbench.analysis.figures.plot_training`."""
    return _of_figure("Training", "training.html.jinja", figure)


def data(card: Mapping[str, Any] | None) -> Section | None:
    """Show the data card; unknown entries are left out."""
    if not card:
        return None
    facts = {name: value for name, value in card.items() if value is not None and name != "states"}
    return Section("Data", "data.html.jinja", {"card": facts, "states": card.get("states", []), "limit": OPEN})


def split(summary: pd.DataFrame, checks: pd.DataFrame) -> Section:
    """Show the parts of the split and what was checked.

    See :func:`perturbench.data.splits.split_summary` and :func:`perturbench.data.splits.split_checks`.
    """
    content = {"checks": tables.records(checks), "rows": tables.records(summary), "limit": OPEN}
    return Section("Split", "split.html.jinja", content)


def predictions(log: pd.DataFrame, task: str) -> Section:
    """Show what was evaluated or refused and why, and how to make each again.

    Parameters
    ----------
    log
        ``prediction``, ``status``, ``reason``, ``hyperparameters``, ``command`` (empty where it is not known).
    task
        Whose predictions they are.
    """
    content = {"rows": tables.records(log), "task": task}
    return Section("Predictions and how to make them again", "predictions.html.jinja", content)


def provenance(facts: Mapping[str, Any], command: str | None = None) -> Section:
    """Show what made the results, and the command that writes this page."""
    return Section("Provenance", "provenance.html.jinja", {"facts": facts, "command": command})


def _with_the_best(comparisons: pd.DataFrame | None, best: Mapping[str, Best]) -> pd.DataFrame | None:
    """Return the tests with the model of the best mean only, if there are many others."""
    if comparisons is None or len(comparisons) <= MAX_TESTS:
        return comparisons
    model = comparisons["metric"].map({name: entry.model for name, entry in best.items()})
    return comparisons[(comparisons["model"] == model) | (comparisons["other"] == model)]


def _of_figure(title: str, template: str, figure: go.Figure, **content: Any) -> Section | None:
    """Return a section, unless there is nothing to draw."""
    return Section(title, template, {"figure": figure, **content}) if figure.data else None
