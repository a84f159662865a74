"""Figure of a few predicted perturbations: their cells in an embedding, and predicted against observed means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from perturbench.analysis.examples import Embedding, Example, log_fold_change
from perturbench.analysis.figures import theme

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from perturbench.analysis.metrics.definitions import Metric

#: Number of genes with the largest observed log fold changes that are labelled.
TOP_GENES = 5
_KINDS = {
    "control": {"color": theme.MUTED, "symbol": "circle-open"},
    "observed": {"color": theme.MAIN, "symbol": "circle"},
    "predicted": {"color": theme.COLOURS[1], "symbol": "x-thin-open"},
}
_AXES = {"pca": "PC", "umap": "UMAP "}


def plot_examples(
    examples: Sequence[Example], model: str = "", metric: Metric | None = None, embedding: Embedding = "pca"
) -> go.Figure:
    """Draw each example in a row: its cells in the embedding, and the predicted against the observed means of genes.

    Parameters
    ----------
    examples
        The pairs, see :func:`perturbench.analysis.examples.make_examples`.
    model, metric
        The model that predicted them, and the metric of their scores.
    embedding
        The embedding of the cells, for the names of the axes.

    Returns
    -------
    The figure; ``layout.meta`` has the model, and a row of text for each example.
    """
    if not examples or metric is None:
        return theme.empty_figure("No model has predicted cells.")
    figure = theme.panels([title for example in examples for title in _titles(example, metric)], 2, 280)
    for row, example in enumerate(examples):
        _add_cells(figure, example.cells, theme.place(2 * row, 2), _AXES[embedding], first=row == 0)
        _add_genes(figure, example.genes, theme.place(2 * row + 1, 2))
    rows = [_in_words(example, metric) for example in examples]
    return figure.update_layout(meta={"model": model, "embedding": embedding.upper(), "rows": rows})


def _titles(example: Example, metric: Metric) -> tuple[str, str]:
    small = f"<br><span style='font-size:11px'>{example.why}, {metric.name} {example.value:.3g}</span>"
    return theme.shorten(example.name, 24) + small, "means of genes"


def _add_cells(figure: go.Figure, cells: pd.DataFrame, where: dict[str, int], axis: str, *, first: bool) -> None:
    for kind, style in _KINDS.items():
        of_kind = cells[cells["kind"] == kind]
        figure.add_trace(
            go.Scatter(
                x=of_kind["x"].round(2),
                y=of_kind["y"].round(2),
                mode="markers",
                marker={**style, "size": 5, "opacity": 0.7, "line_width": 1},
                name=kind,
                legendgroup=kind,
                showlegend=first,
                hovertemplate=f"{kind} cell<extra></extra>",
            ),
            **where,
        )
    figure.update_xaxes(title=f"{axis}1", showticklabels=False, title_standoff=4, **where)
    figure.update_yaxes(title=f"{axis}2", showticklabels=False, title_standoff=4, **where)


def _add_genes(figure: go.Figure, genes: pd.DataFrame, where: dict[str, int]) -> None:
    top, others = genes[:TOP_GENES], genes[TOP_GENES:]
    limit = float(np.ceil(genes[["observed", "predicted"]].to_numpy().max() * 10) / 10) or 1.0
    figure.add_trace(
        go.Scatter(
            x=[0, limit],
            y=[0, limit],
            mode="lines",
            line={"color": theme.MUTED, "dash": "dot", "width": 1},
            hoverinfo="skip",
            showlegend=False,
        ),
        **where,
    )
    for part, colour, size in ((others, theme.MAIN, 4), (top, theme.COLOURS[1], 7)):
        figure.add_trace(
            go.Scatter(
                x=part["observed"].round(3),
                y=part["predicted"].round(3),
                mode="markers",
                text=part["gene"],
                marker={"color": colour, "size": size, "opacity": 0.7},
                hovertemplate="%{text}: observed %{x:.3g}, predicted %{y:.3g}<extra></extra>",
                showlegend=False,
            ),
            **where,
        )
    _label(figure, top, limit)
    figure.update_xaxes(title="observed", title_standoff=4, **where)
    figure.update_yaxes(title="predicted", title_standoff=4, **where)


def _label(figure: go.Figure, genes: pd.DataFrame, limit: float) -> None:
    """Name genes in the upper left of the last panel, with lines to their points: beside the points, names overlap."""
    axes = {"xref": figure.data[-1].xaxis, "yref": figure.data[-1].yaxis}
    by_height = genes.sort_values("predicted", ascending=False, kind="stable")
    for row, gene in enumerate(by_height.to_dict("records")):
        figure.add_annotation(
            text=gene["gene"],
            x=gene["observed"],
            y=gene["predicted"],
            ax=0.12 * limit,
            ay=limit * (1 - 0.09 * row),
            axref=axes["xref"],
            ayref=axes["yref"],
            xanchor="left",
            font_size=10,
            bgcolor="white",  # hides the lines of the names above
            borderpad=0,
            arrowhead=0,
            arrowwidth=0.7,
            arrowcolor=theme.MUTED,
            **axes,
        )


def _in_words(example: Example, metric: Metric) -> dict[str, str]:
    """Return what the panels of an example show, for readers who do not see them."""
    changes = {side: log_fold_change(example.genes, side) for side in ("observed", "predicted")}
    top = [
        f"{gene} {changes['observed'][row]:+z.1f} ({changes['predicted'][row]:+z.1f})"
        for row, gene in enumerate(example.genes["gene"][:TOP_GENES])
    ]
    return {
        "perturbation": example.name,
        "shown as": example.why,
        metric.name: f"{example.value:.3g}",
        "largest log fold changes: observed (predicted)": ", ".join(top),
    }
