"""Figure of a series of tasks: scores against the imbalance, or the size, of the training data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pandas as pd
import plotly.graph_objects as go

from perturbench.analysis.figures import theme

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perturbench.analysis.metrics.definitions import Metric

Against = Literal["imbalance", "training_cells"]
_AXES = {
    "imbalance": "imbalance (1 - normalised entropy)",
    "training_cells": "perturbed cells in training",
}


def position_of(summary: pd.DataFrame, against: Against) -> float:
    """Return the position of a task on the x axis, from the summary of its split.

    Parameters
    ----------
    summary
        Summary of the split, see :func:`perturbench.data.splits.split_summary`.
    against
        What the x axis shows: ``imbalance`` of the perturbations per state, or ``training_cells``, the number of
        perturbed cells in training.
    """
    if against == "imbalance":
        return float(summary.loc[summary["split"] == "used", "imbalance"].iloc[0])
    return float(summary.loc[summary["split"] == "train", "cells"].sum())


def plot_series(
    boards: Mapping[str, pd.DataFrame],
    positions: Mapping[str, float],
    against: Against,
    metrics: Sequence[Metric],
    models: Sequence[str],
) -> go.Figure:
    """Draw the means and intervals of models over a series of tasks, one panel per metric and one line per model.

    Parameters
    ----------
    boards
        Leaderboard of each task.
    positions
        Position of each task on the x axis, see :func:`position_of`.
    against
        What the x axis shows.
    metrics, models
        Metrics, one panel each; models, one line each, until the colours are used up.
    """
    if len(boards) < 2:
        return theme.empty_figure(
            "This figure needs the leaderboards of at least two tasks of the series (reporting.series)."
        )
    tasks = sorted(boards, key=lambda task: positions[task])
    present = [model for model in models if any(model in set(boards[task]["model"]) for task in tasks)]
    metrics = [metric for metric in metrics if any(metric.name in boards[task] for task in tasks)][: theme.MAX_PANELS]
    columns = min(2, len(metrics))
    figure = theme.panels([theme.panel_title(metric) for metric in metrics], columns, 300)
    for position, metric in enumerate(metrics):
        for model, colour in zip(present, theme.COLOURS, strict=False):
            line = _line(boards, positions, tasks, metric.name, model)
            figure.add_trace(
                go.Scatter(
                    x=line["x"],
                    y=line["mean"],
                    error_y={
                        "array": line["high"] - line["mean"],
                        "arrayminus": line["mean"] - line["low"],
                        "width": 3,
                    },
                    mode="lines+markers",
                    name=theme.shorten(model),
                    legendgroup=model,
                    showlegend=position == 0,
                    line_color=colour,
                    text=line["task"],
                    hovertemplate="%{text}: %{y:.4g}<extra>" + model + "</extra>",
                ),
                **theme.place(position, columns),
            )
    figure.update_xaxes(title_text=_AXES[against], type="log" if against == "training_cells" else "linear")
    return figure


def _line(
    boards: Mapping[str, pd.DataFrame], positions: Mapping[str, float], tasks: Sequence[str], metric: str, model: str
) -> pd.DataFrame:
    rows = [
        (task, positions[task], *(row[f"{metric}{end}"] for end in ("", "_low", "_high")))
        for task in tasks
        if metric in boards[task]
        for row in boards[task][boards[task]["model"] == model].to_dict("records")
    ]
    return pd.DataFrame(rows, columns=["task", "x", "mean", "low", "high"])
