"""Figure of training: losses per epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from perturbench.analysis.figures import theme

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

#: Largest number of points on a line; of a longer training, only every second, third, ... epoch is drawn.
MAX_EPOCHS = 200
#: With more models than this, panels are small.
_MANY_MODELS = 9
_LINES = {"train_loss": ("training", theme.COLOURS[5]), "val_loss": ("validation", theme.COLOURS[1])}


def plot_training(losses: Mapping[str, Mapping[str, pd.DataFrame]]) -> go.Figure:
    """Draw training and validation losses per epoch, one panel per model and one line per seed.

    Parameters
    ----------
    losses
        Losses of each model and seed: ``epoch``, ``train_loss``, ``val_loss``, and for a loss of several terms
        ``train_<term>`` and ``val_<term>``. Terms are hidden until they are clicked in the legend.
    """
    if not losses:
        return theme.empty_figure("No model here is trained in epochs.")
    many = len(losses) > _MANY_MODELS
    columns = min(4 if many else 3, len(losses))
    figure = theme.panels([theme.shorten(model, 34) for model in losses], columns, 120 if many else 180)
    for position, seeds in enumerate(losses.values()):
        # Losses such as a log likelihood can be negative, which a logarithmic axis cannot show.
        if all((table[list(_LINES)] > 0).to_numpy().all() for table in seeds.values()):
            figure.update_yaxes(type="log", tickformat=".3~s", **theme.place(position, columns))
        for seed, table in seeds.items():
            for name, (label, colour) in _LINES.items():
                _add_line(figure, table, name, label, colour, seed, theme.place(position, columns))
            for name in table.columns.drop(["epoch", *_LINES]):
                _add_term(figure, table, name, seed, theme.place(position, columns))
    return figure.update_xaxes(title={"text": "epoch", "standoff": 4}, rangemode="tozero")


def _add_line(
    figure: go.Figure, table: pd.DataFrame, name: str, label: str, colour: str, seed: str, where: dict[str, int]
) -> None:
    first = label not in {trace.name for trace in figure.data}
    step = -(-len(table) // MAX_EPOCHS)
    thinned = table.iloc[::step]
    figure.add_trace(
        go.Scatter(
            x=thinned["epoch"],
            y=thinned[name].to_numpy(dtype=np.float32),
            mode="lines+markers" if len(table) == 1 else "lines",
            line={"color": colour, "width": 1.5},
            name=label,
            legendgroup=label,
            showlegend=first,
            hovertemplate=f"{label}, {seed}, epoch %{{x}}: %{{y:.4g}}<extra></extra>",
        ),
        **where,
    )
    if name == "val_loss":
        best = table.loc[table[name].idxmin()]
        figure.add_trace(
            go.Scatter(
                x=[best["epoch"]],
                y=[best[name]],
                mode="markers",
                marker={"color": colour, "size": 6},
                name="checkpoint",
                legendgroup="checkpoint",
                showlegend="checkpoint" not in {trace.name for trace in figure.data},
                hovertemplate=f"checkpoint, {seed}, epoch %{{x}}: %{{y:.4g}}<extra></extra>",
            ),
            **where,
        )


def _add_term(figure: go.Figure, table: pd.DataFrame, name: str, seed: str, where: dict[str, int]) -> None:
    """Draw one term of a loss, hidden at first: terms differ by orders of magnitude."""
    part, term = name.split("_", 1)
    label, colour = f"{term.replace('_', ' ')} ({_LINES[f'{part}_loss'][0]})", _LINES[f"{part}_loss"][1]
    thinned = table.iloc[:: -(-len(table) // MAX_EPOCHS)]
    figure.add_trace(
        go.Scatter(
            x=thinned["epoch"],
            y=thinned[name].to_numpy(dtype=np.float32),
            line={"color": colour, "width": 1, "dash": "dot"},
            name=label,
            legendgroup=label,
            showlegend=label not in {trace.name for trace in figure.data},
            visible="legendonly",
            hovertemplate=f"{label}, {seed}, epoch %{{x}}: %{{y:.4g}}<extra></extra>",
        ),
        **where,
    )
