"""Tables of the report, with their values as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from perturbench.analysis.metrics.registry import available_metrics
from perturbench.analysis.score_table import metric_names

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Largest number of states that are columns; more states than this are rows, if they outnumber the models.
MAX_STATE_COLUMNS = 8


def records(table: pd.DataFrame | None) -> list[dict[Any, Any]]:
    """Return the rows of a table with values rounded for reading; no rows without a table."""
    if table is None:
        return []
    table = table.assign(**{name: table[name].map("{:.2g}".format) for name in table if name in ("pvalue", "adjusted")})
    return table.round(4).astype(object).where(table.notna(), "").to_dict("records")


def intervals(board: pd.DataFrame) -> list[dict[str, str]]:
    """Return the 95% interval of each model (rows) and metric (columns)."""
    return [
        {"model": row["model"]}
        | {name: _interval(row[f"{name}_low"], row[f"{name}_high"]) for name in metric_names(board)}
        for row in board.to_dict("records")
    ]


def normalised(board: pd.DataFrame) -> list[dict[str, str]]:
    """Return the normalised value of each model (rows) and metric (columns)."""
    return [
        {"model": row["model"]} | {name: _number(row[f"{name}_normalised"], "z.2f") for name in metric_names(board)}
        for row in board.to_dict("records")
    ]


def undefined(board: pd.DataFrame) -> list[str]:
    """Return a sentence for each model and metric that is undefined for some perturbations."""
    return [
        f"{row['model']}: {name} is undefined for {row[f'{name}_undefined']:.0%} of the perturbations"
        for row in board.to_dict("records")
        for name in metric_names(board)
        if row[f"{name}_undefined"] > 0
    ]


def by_state(states: pd.DataFrame, metric: str, models: Sequence[str]) -> dict[str, Any]:
    """Return the table of one metric: models by states, with shading.

    Parameters
    ----------
    states
        Means per state, see :func:`perturbench.analysis.score_table.per_state`.
    metric, models
        Name of the metric; names of the models in order.

    Returns
    -------
    ``metric``, ``corner``, ``columns`` and ``rows``. A row is its name and its entries, each with ``text``, ``note``
    (the standard error) and ``strength``, the shading between 0 (worst model of the state) and 1 (best). Models are
    rows, unless the states outnumber them and would not fit the width of the page.
    """
    means = states[states["metric"] == metric]
    keys = [name for name in means.columns if name not in ("model", "metric", "mean", "standard_error", "n")]
    means = means.assign(state=means[keys].astype(str).agg(", ".join, axis=1))
    n = means.groupby("state")["n"].max()
    means["state"] = means["state"].map(lambda state: f"{state} (n={n[state]})")
    errors = means.pivot(index="model", columns="state", values="standard_error").reindex(list(models))
    means = means.pivot(index="model", columns="state", values="mean").reindex(list(models))
    strength, corner = _shading(means, metric), "model"
    if len(means.columns) > max(MAX_STATE_COLUMNS, len(means)):
        means, errors, strength, corner = means.T, errors.T, strength.T, "state"
    rows = [
        (name, [_entry(*values) for values in zip(means.loc[name], errors.loc[name], strength.loc[name], strict=True)])
        for name in means.index
    ]
    return {"metric": metric, "corner": corner, "columns": list(means.columns), "rows": rows}


def _shading(means: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the strength of the shading of models (rows) by states, from 0 for the worst model to 1 for the best.

    Models are compared within a state only, because states differ in how hard they are to predict.
    """
    known = available_metrics()
    higher = metric not in known or known[metric].better == "higher"
    span = (means.max() - means.min()).replace(0, float("nan"))
    return (((means - means.min()) if higher else (means.max() - means)) / span).fillna(0.0).round(2)


def _entry(mean: float, error: float, strength: float) -> dict[str, Any]:
    return {"text": _number(mean, ".3f"), "note": "" if pd.isna(error) else f"± {error:.2g}", "strength": strength}


def _interval(low: float, high: float) -> str:
    return "-" if pd.isna(low) else f"{low:.4f} to {high:.4f}"


def _number(value: float, spec: str) -> str:
    return "-" if pd.isna(value) else format(value, spec)
