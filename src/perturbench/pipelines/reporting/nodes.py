"""Draw and write the report of a task."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import version

import pandas as pd
import plotly.graph_objects as go

from perturbench import __version__
from perturbench.config import EvaluationConfig
from perturbench.pipelines.evaluation.nodes import chosen_metrics, valid_scores


def plot_leaderboard(
    scores: dict[str, Callable[[], pd.DataFrame]],
    evaluation_log: pd.DataFrame,
    leaderboard: pd.DataFrame,
    evaluation: EvaluationConfig,
    title: str,
) -> go.Figure:
    """Draw the scores of every model over perturbations."""
    from perturbench.analysis.figures import plot_scores

    table = valid_scores(scores, evaluation_log)
    return plot_scores(table, chosen_metrics(evaluation), list(leaderboard["model"]), title)


def write_report(
    leaderboard: pd.DataFrame,
    leaderboard_plot: go.Figure,
    split_summary: pd.DataFrame,
    evaluation_log: pd.DataFrame,
    evaluation: EvaluationConfig,
    task: str,
    title: str,
) -> str:
    """Return the page."""
    from perturbench.analysis.report import render_report

    chosen_metrics(evaluation)
    packages = ("torch", "lightning", "anndata", "scanpy", "numpy", "pandas", "kedro")
    facts = {"version": __version__, "python": platform.python_version()}
    facts |= {package: version(package) for package in packages}
    return render_report(
        title=title,
        task=task,
        board=leaderboard,
        figure=leaderboard_plot,
        split_summary=split_summary,
        log=evaluation_log,
        facts=facts,
    )
