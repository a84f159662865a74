"""The self-contained report of a task."""

from __future__ import annotations

import math
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment

from perturbench.analysis.leaderboard import format_leaderboard, metric_names
from perturbench.analysis.metrics import available_metrics
from perturbench.analysis.paper import beside_published, published_results

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
    facts: Mapping[str, Any],
    anchors: pd.DataFrame | None = None,
    comparisons: pd.DataFrame | None = None,
    card: Mapping[str, Any] | None = None,
    split_summary: pd.DataFrame | None = None,
    split_checks: pd.DataFrame | None = None,
    log: pd.DataFrame | None = None,
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
    facts
        Provenance: what made the results.
    anchors
        The leaderboard's anchors, in its form.
    comparisons
        Paired tests between the models, see :func:`perturbench.analysis.uncertainty.paired_tests`.
    card
        What is known of the data, see :func:`perturbench.data.card.data_card`; unknown entries are left out.
    split_summary
        Perturbations and cells per state and part, if a split of the project was evaluated.
    split_checks
        What of the split was checked, and the results; likewise.
    log
        What was evaluated, skipped or refused, and why; likewise.
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
            anchors=[] if anchors is None else format_leaderboard(anchors).to_dict("records"),
            details=_details(board),
            comparisons=_records(comparisons),
            card={name: value for name, value in (card or {}).items() if value is not None and name != "states"},
            states=(card or {}).get("states", []),
            split=_records(split_summary),
            checks=_records(split_checks),
            log=_records(log),
            published=_records(beside_published(board, task)),
            paper=published_results()["source"],
            facts=facts,
        )
    )


def _details(board: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the interval and the normalised value of each model and metric, as text."""
    rows = []
    for row in board.to_dict("records"):
        for name in metric_names(board):
            if not math.isnan(row[f"{name}_low"]):
                interval = f"{row[f'{name}_low']:.4f} to {row[f'{name}_high']:.4f}"
                level = row[f"{name}_normalised"]
                shown = "" if math.isnan(level) else f"{level:.2f}"
                rows.append({"model": row["model"], "metric": name, "95% interval": interval, "normalised": shown})
    return rows


def _records(table: pd.DataFrame | None) -> list[dict[Any, Any]]:
    """Return the rows of a table as text, nothing if there is none."""
    if table is None:
        return []
    table = table.assign(**{name: table[name].map("{:.2g}".format) for name in table if name in ("pvalue", "adjusted")})
    return table.round(4).astype(object).where(table.notna(), "").to_dict("records")
