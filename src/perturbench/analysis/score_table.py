"""The score table, one row per model, metric and perturbation: its columns, and means over perturbations."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

#: Entry in the column ``perturbation`` for a metric of the whole split.
WHOLE_SPLIT = "(all)"
#: Columns of the score table that are not covariates.
SCORE_COLUMNS = ("model", "seed", "metric", "perturbation", "value")


def metric_names(table: pd.DataFrame) -> list[str]:
    """Return the names of the metrics in a leaderboard, in its order."""
    return [name.removesuffix("_undefined") for name in table.columns if name.endswith("_undefined")]


def per_state(scores: pd.DataFrame) -> pd.DataFrame:
    """Average scores within each state; seeds are averaged first, as they are not independent perturbations.

    Parameters
    ----------
    scores
        Score table, see :class:`perturbench.analysis.Evaluation`.

    Returns
    -------
    ``model``, ``metric``, the covariates, ``mean``, ``standard_error`` (missing for one perturbation) and ``n``, the
    number of perturbations with a value.
    """
    states = [name for name in scores.columns if name not in SCORE_COLUMNS]
    by_pair = scores[scores["perturbation"] != WHOLE_SPLIT].groupby(["model", "metric", *states, "perturbation"])
    values = by_pair["value"].mean().groupby(["model", "metric", *states])
    return values.agg(mean="mean", standard_error="sem", n="count").reset_index()


def summarise(scores: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Return the mean over perturbations of each model (rows) and metric (columns); undefined values are left out."""
    table = scores.pivot_table(index="model", columns="metric", values="value", aggfunc="mean", dropna=False)
    return table.reindex(columns=list(metrics), index=list(dict.fromkeys(scores["model"])))
