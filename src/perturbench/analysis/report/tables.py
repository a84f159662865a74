"""Tables of the report, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from perturbench.analysis.leaderboard import metric_names
from perturbench.analysis.metrics import available_metrics

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
        {"model": row["model"]} | {name: _number(row[f"{name}_normalised"], ".2f") for name in metric_names(board)}
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
    ``columns`` and ``rows`` of ``(text, strength)``, the strength between 0 (the state's worst) and 1 (its best), and
    what the rows are. Models are rows, unless there are many states.
    """
    own = states[states["metric"] == metric]
    keys = [name for name in own.columns if name not in ("model", "metric", "mean", "standard_error", "n")]
    label = own[keys].astype(str).agg(", ".join, axis=1)
    means = own.assign(state=label).pivot(index="model", columns="state", values="mean").reindex(list(models))
    errors = own.assign(state=label).pivot(index="model", columns="state", values="standard_error").reindex(means.index)
    n = own.assign(state=label).groupby("state")["n"].max()
    known = available_metrics()
    higher = metric not in known or known[metric].better == "higher"
    span = (means.max() - means.min()).replace(0, float("nan"))
    strength = ((means - means.min()) if higher else (means.max() - means)) / span
    cells = {
        (model, state): (_with_error(means.at[model, state], errors.at[model, state]), _or_zero(strength, model, state))
        for model in means.index
        for state in means.columns
    }
    heads = {state: f"{state} (n = {n[state]})" for state in means.columns}
    if len(means.columns) > max(WIDE, len(means)):
        rows = [(heads[state], [cells[model, state] for model in means.index]) for state in means.columns]
        return {"metric": metric, "corner": "state", "columns": list(means.index), "rows": rows}
    rows = [(model, [cells[model, state] for state in means.columns]) for model in means.index]
    return {"metric": metric, "corner": "model", "columns": list(heads.values()), "rows": rows}


def _or_zero(strength: pd.DataFrame, model: str, state: str) -> float:
    value = strength.at[model, state]
    return 0.0 if pd.isna(value) else round(float(value), 2)


def _with_error(mean: float, error: float) -> str:
    return _number(mean, ".3g") + ("" if pd.isna(error) else f" ± {error:.2g}")


def _interval(low: float, high: float) -> str:
    return "-" if pd.isna(low) else f"{low:.4f} to {high:.4f}"


def _number(value: float, form: str) -> str:
    return "-" if pd.isna(value) else format(value, form)
