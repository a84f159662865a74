"""Colours, panels and layout that all figures share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perturbench.analysis.metrics.definitions import Metric

#: The palette of Okabe and Ito, which colour-blind readers can tell apart; olive replaces its yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
MAIN, MUTED = COLOURS[0], "#8C8C8C"
#: Largest number of panels in a figure; further metrics are in the tables only.
MAX_PANELS = 12
ARROWS = {"lower": "↓", "higher": "↑"}
_ROW_GAP, _COLUMN_GAP = 80, 0.03
_TOP, _BOTTOM = 70, 40


def rgba(colour: str, alpha: float) -> str:
    """Return a hexadecimal colour as CSS text with transparency."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def shorten(name: str, length: int = 28) -> str:
    """Return a name that fits an axis: if it is too long, an ellipsis replaces its middle."""
    half = (length - 1) // 2
    return name if len(name) <= length else f"{name[:half]}…{name[-half:]}"


def panel_title(metric: Metric) -> str:
    """Return the title of a metric's panel: its name, and an arrow in the direction that is better."""
    return f"{metric.name} {ARROWS[metric.better]}"


def panels(titles: Sequence[str], columns: int, height: int, *, shared_y: bool = False) -> go.Figure:
    """Return an empty figure with one panel per title, row by row.

    Parameters
    ----------
    titles
        Titles of the panels.
    columns
        Number of panels side by side.
    height
        Height of a panel in pixels.
    shared_y
        Whether the panels of a row share their y axis.
    """
    columns = min(columns, len(titles))
    rows = -(-len(titles) // columns)
    inside = rows * height + (rows - 1) * _ROW_GAP
    figure = make_subplots(
        rows,
        columns,
        subplot_titles=titles,
        shared_yaxes=shared_y,
        vertical_spacing=_ROW_GAP / inside if rows > 1 else 0,
        horizontal_spacing=_COLUMN_GAP if shared_y else 0.07,
    )
    figure.update_annotations(font_size=13)
    return apply_style(figure, inside + _TOP + _BOTTOM)


def place(position: int, columns: int) -> dict[str, int]:
    """Return the row and column of a panel as plotly's arguments, which count from 1."""
    row, column = divmod(position, columns)
    return {"row": row + 1, "col": column + 1}


def apply_style(figure: go.Figure, height: int) -> go.Figure:
    """Give a figure the common style."""
    figure.update_layout(
        template="plotly_white",
        height=height,
        font_size=12,
        margin={"l": 10, "r": 20, "t": _TOP, "b": _BOTTOM},
        legend={"orientation": "h", "yref": "container", "yanchor": "top", "y": 1, "x": 0, "xanchor": "left"},
        hoverlabel_namelength=-1,
    )
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    return figure


def empty_figure(reason: str) -> go.Figure:
    """Return a figure without data that says why there is nothing to draw."""
    figure = apply_style(go.Figure(), 160)
    figure.add_annotation(text=reason, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper", font_color=MUTED)
    return figure.update_xaxes(visible=False).update_yaxes(visible=False)
