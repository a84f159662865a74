"""Figures of scores: the means of the models, and the spread over perturbations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go

from perturbench.analysis.figures import theme
from perturbench.analysis.score_table import WHOLE_SPLIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from perturbench.analysis.metrics.definitions import Metric

#: Largest number of points in a figure; with more, only the boxes are drawn.
MAX_POINTS = 6000
#: Panels with more models than this have narrower rows.
_MANY_MODELS = 12
_ANCHORS = {
    "control": ("#8C8C8C", "dot"),
    "mean_response": ("#D55E00", "dash"),
    "additive": ("#CC79A7", "dashdot"),
    "technical_duplicate": ("#009E73", "solid"),
}


def plot_ranking(board: pd.DataFrame, metrics: Sequence[Metric], anchors: pd.DataFrame | None = None) -> go.Figure:
    """Draw the mean and the interval of each model, one panel per metric, with the anchors as lines.

    Parameters
    ----------
    board
        Leaderboard, see :func:`perturbench.analysis.leaderboard.leaderboard`.
    metrics
        Metrics to draw, one panel each.
    anchors
        Leaderboard of the anchors.
    """
    metrics = metrics[: theme.MAX_PANELS]
    names = list(board["model"])
    figure, columns = _model_panels(metrics, names)
    levels = {} if anchors is None else {row["model"]: row for row in anchors.to_dict("records")}
    for position, metric in enumerate(metrics):
        mean, low, high = (board[f"{metric.name}{end}"] for end in ("", "_low", "_high"))
        figure.add_trace(
            go.Scatter(
                x=mean,
                y=names,
                mode="markers",
                marker={"color": theme.MAIN, "size": 8},
                error_x={"array": high - mean, "arrayminus": mean - low, "color": theme.MAIN, "width": 3},
                customdata=board[["model"]].assign(low=low, high=high),
                hovertemplate="%{customdata[0]}: %{x:.4g} (95% %{customdata[1]:.4g} to %{customdata[2]:.4g})"
                "<extra></extra>",
                showlegend=False,
            ),
            **theme.place(position, columns),
        )
        for anchor in _ANCHORS:
            if anchor in levels and levels[anchor][metric.name] == levels[anchor][metric.name]:  # not NaN
                _add_line(figure, levels[anchor][metric.name], names, anchor, theme.place(position, columns))
    return figure


def plot_scores(scores: pd.DataFrame, metrics: Sequence[Metric], models: Sequence[str]) -> go.Figure:
    """Draw the spread of each model's scores over perturbations as boxes, one panel per metric.

    Seeds are averaged. With many perturbations only quartiles are stored, so that the figure stays small.

    Parameters
    ----------
    scores
        Long form: ``model``, ``metric``, ``perturbation``, covariates, ``value``.
    metrics, models
        Metrics, one panel each; models, one box each in a panel.
    """
    metrics = [metric for metric in metrics if _values(scores, metric).size][: theme.MAX_PANELS]
    if not metrics:
        return theme.empty_figure("No metric here has a value for each perturbation.")
    figure, columns = _model_panels(metrics, models)
    keys = [name for name in scores.columns if name not in ("seed", "value")]
    means = scores.groupby(keys, observed=True)["value"].mean().dropna().reset_index()
    with_points = len(means[means["metric"].isin([metric.name for metric in metrics])]) <= MAX_POINTS
    for position, metric in enumerate(metrics):
        of_metric = means[means["metric"] == metric.name].set_index("model")
        for model in models:
            values = of_metric.loc[of_metric.index == model]
            figure.add_trace(_box(values, model, with_points), **theme.place(position, columns))
        if metric.is_rank:
            figure.add_vline(x=0.5, line_dash="dot", line_color=theme.MUTED, **theme.place(position, columns))
            figure.update_xaxes(range=[-0.05, 1.05], **theme.place(position, columns))
    return figure


def _values(scores: pd.DataFrame, metric: Metric) -> pd.Series:
    of_metric = scores[(scores["metric"] == metric.name) & (scores["perturbation"] != WHOLE_SPLIT)]
    return of_metric["value"].dropna()


def _model_panels(metrics: Sequence[Metric], models: Sequence[str]) -> tuple[go.Figure, int]:
    """Return an empty figure with the models from top to bottom in each panel, and the number of columns of panels."""
    columns = len(metrics) if len(metrics) <= 4 else 3
    titles = [theme.panel_title(metric) for metric in metrics]
    height = 20 + max(60, (18 if len(models) > _MANY_MODELS else 28) * len(models))
    figure = theme.panels(titles, columns, height, shared_y=True)
    figure.update_yaxes(
        type="category",
        categoryorder="array",
        categoryarray=list(models),
        tickvals=list(models),
        ticktext=[theme.shorten(model) for model in models],
        range=[len(models) - 0.5, -0.5],
    )
    return figure, columns


def _box(values: pd.DataFrame, model: str, with_points: bool) -> go.Box:
    style = {"marker_color": theme.MAIN, "line_width": 1, "name": model, "orientation": "h", "showlegend": False}
    states = [name for name in values.columns if name not in ("metric", "perturbation", "value")]
    if with_points:
        return go.Box(
            x=values["value"],
            y=[model] * max(1, len(values)),
            boxpoints="all",
            jitter=0.5,
            pointpos=0,
            marker_size=3,
            marker_opacity=0.5,
            text=[", ".join(map(str, row)) for row in values[["perturbation", *states]].itertuples(index=False)],
            hovertemplate="%{text}: %{x:.4g}<extra>" + model + "</extra>",
            **style,
        )
    quantiles = values["value"].quantile([0.05, 0.25, 0.5, 0.75, 0.95]).tolist()
    names = ("lowerfence", "q1", "median", "q3", "upperfence")
    return go.Box(y=[model], **{name: [value] for name, value in zip(names, quantiles, strict=True)}, **style)


def _add_line(figure: go.Figure, value: float, names: list[str], anchor: str, where: dict[str, int]) -> None:
    """Draw an anchor as a line across all models of a panel; the legend names it once."""
    colour, dash = _ANCHORS[anchor]
    in_legend = {trace.legendgroup for trace in figure.data}
    figure.add_trace(
        go.Scatter(
            x=[value] * len(names),
            y=names,
            mode="lines" if len(names) > 1 else "markers",
            line={"color": colour, "dash": dash, "width": 1.5},
            marker={"symbol": "line-ns-open", "size": 40, "color": colour},
            name=anchor,
            legendgroup=anchor,
            showlegend=anchor not in in_legend,
            hovertemplate=f"{anchor}: {value:.4g}<extra></extra>",
        ),
        **where,
    )
