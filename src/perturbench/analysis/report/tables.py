"""Tables of the report, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from perturbench.analysis.metrics.registry import available_metrics
from perturbench.analysis.score_table import metric_names

if TYPE_CHECKING:
    from collections.abc import Sequence

#: More states than this, and more than models, go down the page instead of across.
WIDE = 8


def records(table: pd.DataFrame | None) -> list[dict[Any, Any]]:
    """Return the rows of a table as text, none if there is no table."""
    if table is None:
        return []
    table = table.assign(**{name: table[name].map("{:.2g}".format) for name in table if name in ("pvalue", "adjusted")})
    return table.round(4).astype(object).where(table.notna(), "").to_dict("records")


def intervals(board: pd.DataFrame) -> list[dict[str, str]]:
    """Return the interval of each model (rows) and metric (columns)."""
    return [
        {"model": row["model"]}
        | {name: _interval(row[f"{name}_low"], row[f"{name}_high"]) for name in metric_names(board)}
        for row in board.to_dict("records")
    ]


def normalised(board: pd.DataFrame) -> list[dict[str, str]]:
    """Return the value of each model (rows) and metric (columns) between the baseline (0) and the duplicate (1)."""
    return [
        {"model": row["model"]} | {name: _number(row[f"{name}_normalised"], "z.2f") for name in metric_names(board)}
        for row in board.to_dict("records")
    ]


def undefined(board: pd.DataFrame) -> list[str]:
    """Say which model has no value for which share of the perturbations."""
    return [
        f"{row['model']}: {name} is undefined for {row[f'{name}_undefined']:.0%} of the perturbations"
        for row in board.to_dict("records")
        for name in metric_names(board)
        if row[f"{name}_undefined"] > 0
    ]


def by_state(states: pd.DataFrame, metric: str, models: Sequence[str]) -> dict[str, Any]:
    """Return one metric's table of models and states.

    Parameters
    ----------
    states
        See :func:`perturbench.analysis.evaluation.per_state`.
    metric, models
        Which metric; the models in order.

    Returns
    -------
    ``corner``, ``columns`` and ``rows``: names, and cells of ``text``, ``note`` (the standard error) and ``strength``
    between 0 (the state's worst) and 1 (its best). Models are rows, unless there are more states than models and than
    fit the page.
    """
    own = states[states["metric"] == metric]
    keys = [name for name in own.columns if name not in ("model", "metric", "mean", "standard_error", "n")]
    own = own.assign(state=own[keys].astype(str).agg(", ".join, axis=1))
    n = own.groupby("state")["n"].max()
    own["state"] = own["state"].map(lambda state: f"{state} (n={n[state]})")
    means = own.pivot(index="model", columns="state", values="mean").reindex(list(models))
    errors = own.pivot(index="model", columns="state", values="standard_error").reindex(means.index)
    known = available_metrics()
    higher = metric not in known or known[metric].better == "higher"
    span = (means.max() - means.min()).replace(0, float("nan"))
    strength = (((means - means.min()) if higher else (means.max() - means)) / span).fillna(0.0).round(2)
    corner = "model"
    if len(means.columns) > max(WIDE, len(means)):
        means, errors, strength, corner = means.T, errors.T, strength.T, "state"
    rows = [
        (name, [_cell(*cell) for cell in zip(means.loc[name], errors.loc[name], strength.loc[name], strict=True)])
        for name in means.index
    ]
    return {"metric": metric, "corner": corner, "columns": list(means.columns), "rows": rows}


def _cell(mean: float, error: float, strength: float) -> dict[str, Any]:
    return {"text": _number(mean, ".3f"), "note": "" if pd.isna(error) else f"± {error:.2g}", "strength": strength}


def _interval(low: float, high: float) -> str:
    return "-" if pd.isna(low) else f"{low:.4f} to {high:.4f}"


def _number(value: float, form: str) -> str:
    return "-" if pd.isna(value) else format(value, form)
