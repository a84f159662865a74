"""The self-contained report of a task."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment

from perturbench.analysis.leaderboard import format_leaderboard, metric_names
from perturbench.analysis.metrics import available_metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    import plotly.graph_objects as go


def render_report(
    *,
    title: str,
    task: str,
    board: pd.DataFrame,
    figure: go.Figure,
    split_summary: pd.DataFrame,
    log: pd.DataFrame,
    facts: Mapping[str, Any],
) -> str:
    """Render everything known of a task as one html page that opens offline.

    Parameters
    ----------
    title, task
        What the page is about.
    board
        The leaderboard.
    figure
        Its figure; plotly's script is part of the page.
    split_summary
        Perturbations and cells per state and part.
    log
        What was evaluated, skipped or refused, and why.
    facts
        Provenance: what made the results.
    """
    source = files("perturbench.analysis").joinpath("report.html.jinja").read_text(encoding="utf-8")
    known = available_metrics()
    text = format_leaderboard(board)
    arrows = {name: {"lower": "↓", "higher": "↑"}[known[name].better] for name in metric_names(board) if name in known}
    best = {
        name: (board[name].idxmin() if known[name].better == "lower" else board[name].idxmax())
        for name in arrows
        if board[name].notna().any()
    }
    undefined = [
        f"{row['model']}: {name} is undefined for {row[f'{name}_undefined']:.0%} of the perturbations"
        for row in board.to_dict("records")
        for name in metric_names(board)
        if row[f"{name}_undefined"] > 0
    ]
    return (
        Environment(autoescape=True)
        .from_string(source)
        .render(
            title=title,
            task=task,
            columns=list(text.columns),
            rows=text.to_dict("records"),
            arrows=arrows,
            best=best,
            undefined=undefined,
            figure=figure.to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False}),
            split_columns=list(split_summary.columns),
            split_rows=split_summary.round(4).to_dict("records"),
            log_columns=list(log.columns),
            log_rows=log.fillna("").to_dict("records"),
            facts=facts,
        )
    )
