"""The leaderboard: one row per model, from its scores."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pandas as pd

from perturbench.analysis.anchors import normalise
from perturbench.analysis.inference.uncertainty import bootstrap_intervals
from perturbench.analysis.score_table import metric_names
from perturbench.errors import PerturbenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perturbench.analysis.metrics.definitions import Metric


def leaderboard(scores: pd.DataFrame, metrics: Sequence[Metric], anchors: pd.DataFrame | None = None) -> pd.DataFrame:
    """Rank models by their mean scores.

    Parameters
    ----------
    scores
        Long form: ``model``, ``seed``, ``metric``, ``value``, one row per perturbation.
    metrics
        Metrics to show. The first one ranks the models, but models with more undefined values come after all models
        with fewer, so that no model can win by leaving perturbations out.
    anchors
        Scores of the anchors, for normalised values; see :func:`perturbench.analysis.anchors.anchor_scores`.

    Returns
    -------
    One row per model, best first: ``model``, ``seeds`` (their number), and for each metric its mean over perturbations
    and seeds, ``<metric>_sd`` (standard deviation over seeds, missing for one seed), ``<metric>_low`` and ``_high``
    (95% bootstrap interval over perturbations), ``<metric>_normalised`` (0 is ``mean_response``, 1 is
    ``technical_duplicate``) and ``<metric>_undefined`` (share of perturbations without a value).

    Raises
    ------
    PerturbenchError
        If the table of scores is empty.
    """
    if scores.empty:
        raise PerturbenchError("there are no scores to rank; evaluate some predictions first.")
    keys = ["model", "seed", "metric"]
    per_seed = scores.assign(undefined=scores["value"].isna()).groupby(keys, dropna=False)
    per_seed = per_seed.agg(value=("value", "mean"), undefined=("undefined", "mean")).reset_index()
    intervals = bootstrap_intervals(scores).set_index(["model", "metric"])
    normalised = normalise(scores, anchors) if anchors is not None else pd.DataFrame()
    rows = []
    for model, of_model in per_seed.groupby("model"):
        row: dict[str, object] = {"model": model, "seeds": of_model["seed"].nunique(dropna=False)}
        for metric in metrics:
            values = of_model[of_model["metric"] == metric.name]
            row[metric.name] = values["value"].mean()
            row[f"{metric.name}_sd"] = values["value"].std()
            for side in ("low", "high"):
                row[f"{metric.name}_{side}"] = intervals[side].get((model, metric.name))
            known = metric.name in normalised.columns
            row[f"{metric.name}_normalised"] = normalised.at[model, metric.name] if known else float("nan")
            row[f"{metric.name}_undefined"] = values["undefined"].mean()
        rows.append(row)
    first = metrics[0]
    order = [f"{first.name}_undefined", first.name, "model"]
    return pd.DataFrame(rows).sort_values(order, ascending=[True, first.better == "lower", True], ignore_index=True)


def format_leaderboard(table: pd.DataFrame) -> pd.DataFrame:
    """Return a leaderboard as text, for example ``0.5000 ± 0.0200 (of 75%)``.

    The percentage is the share of perturbations with a value, shown where it is not all. A dash stands for no value.
    """
    text = table[["model", "seeds"]].astype(str)
    for name in metric_names(table):
        cells = []
        for mean, sd, undefined in zip(table[name], table[f"{name}_sd"], table[f"{name}_undefined"], strict=True):
            spread = "" if pd.isna(sd) else f" ± {sd:.4f}"
            share = f" (of {1 - undefined:.0%})" if undefined > 0 else ""
            cells.append("-" if pd.isna(mean) else f"{mean:.4f}{spread}{share}")
        text[name] = cells
    return text


def print_leaderboard(table: pd.DataFrame, title: str, anchors: pd.DataFrame | None = None) -> None:
    """Print a leaderboard to the terminal, and the anchors of its task below it."""
    from rich.console import Console
    from rich.table import Table

    from perturbench.analysis.metrics.registry import available_metrics

    known = available_metrics()
    text = format_leaderboard(table)
    caption = "Mean over perturbations. A dash: undefined, such as the cosine of a zero effect."
    grid = Table(title=title, caption=caption)
    for column in text.columns:
        arrow = {"lower": " ↓", "higher": " ↑"}[known[column].better] if column in known else ""
        grid.add_column(column + arrow, justify="left" if column == "model" else "right")
    for row in text.itertuples(index=False):
        grid.add_row(*row)
    if anchors is not None and len(anchors):
        grid.add_section()
        for row in format_leaderboard(anchors).itertuples(index=False):
            grid.add_row(f"anchor: {row[0]}", "", *row[2:], style="dim")
    Console(width=None if sys.stdout.isatty() else 140).print(grid)
