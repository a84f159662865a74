"""Draw and write the report of a task."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from perturbench import __version__
from perturbench.config import EvaluationConfig
from perturbench.pipelines.evaluation.nodes import VALID, chosen_metrics, valid_scores
from perturbench.provenance import KEY


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
    scores: dict[str, Callable[[], pd.DataFrame]],
    leaderboard: pd.DataFrame,
    anchors: pd.DataFrame,
    comparisons: pd.DataFrame,
    leaderboard_plot: go.Figure,
    data_card: dict[str, Any],
    split_summary: pd.DataFrame,
    split_checks: pd.DataFrame,
    evaluation_log: pd.DataFrame,
    evaluation: EvaluationConfig,
    task: str,
    title: str,
) -> str:
    """Return the page."""
    from perturbench.analysis.report import render_report

    chosen_metrics(evaluation)
    made_by = _made_by(scores, evaluation_log)
    packages = ("torch", "lightning", "anndata", "scanpy", "numpy", "pandas", "kedro")
    facts = {
        "raw data (sha256)": made_by["prepared"].get("raw", "unknown"),
        "preprocessing": made_by["prepared"].get("parameters", "unknown"),
        "split": made_by["split"].get("parameters", "unknown"),
        "evaluation": evaluation.model_dump_json(),
        "perturbench": __version__,
        "python": platform.python_version(),
    }
    facts |= {package: version(package) for package in packages}
    return render_report(
        title=title,
        task=task,
        board=leaderboard,
        anchors=anchors,
        comparisons=comparisons,
        figure=leaderboard_plot,
        card=data_card,
        split_summary=split_summary,
        split_checks=split_checks,
        log=evaluation_log,
        facts=facts,
    )


def _made_by(scores: dict[str, Callable[[], pd.DataFrame]], evaluation_log: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return the stamps of the prepared cells and the split that the scores were computed with."""
    for name in evaluation_log.loc[evaluation_log["status"].isin(VALID), "prediction"]:
        inputs = scores[name]().attrs.get(KEY, {}).get("inputs", {})
        return {what: dict(inputs.get(what, {})) for what in ("prepared", "split")}
    return {"prepared": {}, "split": {}}
