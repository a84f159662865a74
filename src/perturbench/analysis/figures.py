"""Figures of scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from perturbench.analysis.metrics import Metric

_COLOURS = (
    "#4C72B0",
    "#DD8452",
    "#55A868",
    "#C44E52",
    "#8172B3",
    "#937860",
    "#DA8BC3",
    "#8C8C8C",
    "#CCB974",
    "#64B5CD",
)


def plot_scores(scores: pd.DataFrame, metrics: Sequence[Metric], models: Sequence[str], title: str) -> go.Figure:
    """Draw each model's scores over perturbations, one panel per metric.

    Parameters
    ----------
    scores
        Long form: ``model``, ``metric``, ``perturbation``, ``value``.
    metrics, models
        The panels and the boxes, in order.
    title
        Of the figure.
    """
    columns = 2 if len(metrics) > 1 else 1
    rows = -(-len(metrics) // columns)
    panels = [f"{metric.name} ({metric.better} is better)" for metric in metrics]
    figure = make_subplots(rows, columns, subplot_titles=panels, vertical_spacing=min(0.14, 0.4 / rows))
    for position, metric in enumerate(metrics):
        row, column = divmod(position, columns)
        for number, model in enumerate(models):
            own = scores[(scores["model"] == model) & (scores["metric"] == metric.name)]
            figure.add_trace(
                go.Box(
                    y=own["value"],
                    name=model,
                    legendgroup=model,
                    showlegend=position == 0,
                    marker_color=_COLOURS[number % len(_COLOURS)],
                    boxpoints="all",
                    jitter=0.4,
                    pointpos=0,
                    marker_size=4,
                    line_width=1,
                    text=own["perturbation"],
                    hovertemplate="%{text}: %{y:.4g}<extra>" + model + "</extra>",
                ),
                row=row + 1,
                col=column + 1,
            )
        if metric.is_rank:
            figure.add_hline(y=0.5, line_dash="dot", line_color="grey", row=row + 1, col=column + 1)
            figure.update_yaxes(range=[-0.05, 1.05], row=row + 1, col=column + 1)
    figure.update_xaxes(showticklabels=False)
    figure.update_layout(
        title=title,
        template="plotly_white",
        height=120 + 330 * rows,
        legend={"orientation": "h", "yanchor": "top", "y": -0.03},
        margin={"l": 60, "r": 20, "t": 90, "b": 40},
    )
    return figure
