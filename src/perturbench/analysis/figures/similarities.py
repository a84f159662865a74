"""Figure of collapse: how similar perturbation effects are, observed and predicted (figures C.2, C.3 of the paper)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from perturbench.analysis.figures import theme

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

#: Largest number of models, and of states, in a figure; the first ones are shown.
MAX_MODELS, MAX_STATES = 9, 4
_MAX_COLUMNS = 5
#: Heat maps with at most this many perturbations are drawn small.
_FEW_PERTURBATIONS = 6
_COLOURBAR = {"title": "cosine", "thickness": 14, "lenmode": "pixels", "len": 220, "y": 1, "yanchor": "top"}


def plot_similarities(similarities: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Draw the observed similarity matrix of each state, and beside it the predicted ones.

    Parameters
    ----------
    similarities
        Table of each model, best model first, see :func:`perturbench.analysis.metrics.collapse.similarity_table`.
    """
    tables = {model: table for model, table in list(similarities.items())[:MAX_MODELS] if len(table)}
    if not tables:
        return theme.empty_figure("No state has two perturbations whose effects could be compared.")
    first = next(iter(tables.values()))
    columns = min(1 + len(tables), _MAX_COLUMNS)
    rows = -(-(1 + len(tables)) // columns)
    titles, maps = [], []
    for state in first["state"].unique()[:MAX_STATES]:
        observed = _matrix(first, state, "observed")
        panels = [(f"observed, {state}" if state else "observed", observed)]
        panels += [(model, _matrix(table, state, "predicted")) for model, table in tables.items()]
        titles += [_title(name, matrix) for name, matrix in panels] + [""] * (rows * columns - len(panels))
        maps += [matrix for _, matrix in panels] + [None] * (rows * columns - len(panels))
    few = all(matrix is None or len(matrix) <= _FEW_PERTURBATIONS for matrix in maps)
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
    """Return the similarity matrix of one state, perturbations in the order of the table."""
    of_state = table[table["state"] == state]
    order = of_state["perturbation"].unique()
    return of_state.pivot(index="perturbation", columns="other", values=side).reindex(index=order, columns=order)


def _title(name: str, matrix: pd.DataFrame) -> str:
    """Return the name of a panel with its mean similarity; the diagonal, always 1, does not count."""
    off_diagonal = matrix.to_numpy()[~np.eye(len(matrix), dtype=bool)]
    known = off_diagonal[~np.isnan(off_diagonal)]
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
