"""The figure of collapse: how alike perturbations are, observed and predicted (figures C.2 and C.3 of the paper)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from perturbench.analysis.figures import theme

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

#: Heat maps of one figure: of more models or states the first are shown.
MAX_MODELS, MAX_STATES = 9, 4
_COLUMNS = 5
#: Matrices of up to so many perturbations are drawn small.
_FEW = 6
_COLOURBAR = {"title": "cosine", "thickness": 14, "lenmode": "pixels", "len": 220, "y": 1, "yanchor": "top"}


def plot_similarities(similarities: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Draw the observed similarity matrix of each state, and beside it the predicted ones.

    Parameters
    ----------
    similarities
        Of each model, the best first, as :func:`perturbench.analysis.metrics.collapse.similarity_table` returns them.
    """
    shown = {model: table for model, table in list(similarities.items())[:MAX_MODELS] if len(table)}
    if not shown:
        return theme.note("No state has two perturbations to compare.")
    first = next(iter(shown.values()))
    columns = min(1 + len(shown), _COLUMNS)
    rows = -(-(1 + len(shown)) // columns)
    titles, maps = [], []
    for state in first["state"].unique()[:MAX_STATES]:
        observed = _matrix(first, state, "observed")
        of_state = [(f"observed, {state}" if state else "observed", observed)]
        of_state += [(model, _matrix(table, state, "predicted")) for model, table in shown.items()]
        titles += [_title(name, matrix) for name, matrix in of_state] + [""] * (rows * columns - len(of_state))
        maps += [matrix for _, matrix in of_state] + [None] * (rows * columns - len(of_state))
    few = all(matrix is None or len(matrix) <= _FEW for matrix in maps)
    figure = theme.panels(titles, columns, 120 if few else 1000 // max(columns, 4))
    for position, matrix in enumerate(maps):
        if matrix is not None:
            _add(figure, matrix, theme.place(position, columns))
        else:
            figure.update_xaxes(visible=False, **theme.place(position, columns))
            figure.update_yaxes(visible=False, **theme.place(position, columns))
    figure.update_xaxes(showticklabels=False, showgrid=False, constrain="domain")
    figure.update_yaxes(showticklabels=False, showgrid=False, autorange="reversed", constrain="domain")
    return figure.update_layout(coloraxis={"colorscale": "RdBu_r", "cmin": -1, "cmax": 1, "colorbar": _COLOURBAR})


def _matrix(table: pd.DataFrame, state: str, side: str) -> pd.DataFrame:
    """Return one similarity matrix, perturbations in the table's order."""
    own = table[table["state"] == state]
    order = own["perturbation"].unique()
    return own.pivot(index="perturbation", columns="other", values=side).reindex(index=order, columns=order)


def _title(name: str, matrix: pd.DataFrame) -> str:
    off = matrix.to_numpy()[~np.eye(len(matrix), dtype=bool)]
    known = off[~np.isnan(off)]
    return (
        f"{theme.shorten(name)}<br><span style='font-size:11px'>mean {known.mean():.2f}</span>"
        if len(known)
        else theme.shorten(name)
    )


def _add(figure: go.Figure, matrix: pd.DataFrame, where: dict[str, int]) -> None:
    figure.add_trace(
        go.Heatmap(
            z=matrix.to_numpy(dtype=np.float32),
            x=list(matrix.columns),
            y=list(matrix.index),
            coloraxis="coloraxis",
            hovertemplate="%{y} and %{x}: %{z:.2f}<extra></extra>",
        ),
        **where,
    )
    axis = figure.data[-1].xaxis
    figure.update_yaxes(scaleanchor=axis, **where)
