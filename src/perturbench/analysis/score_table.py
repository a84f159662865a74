"""The score table, one row per model, metric and perturbation: its columns, which scores are valid, and their means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

#: Entry in the column ``perturbation`` for a metric of the whole split.
WHOLE_SPLIT = "(all)"
#: Columns of the score table that are not covariates.
SCORE_COLUMNS = ("model", "seed", "metric", "perturbation", "value")
#: How the evaluation of a prediction can end; these are the values of ``status`` in the evaluation log.
EVALUATED, UP_TO_DATE, REFUSED, ORPHAN = "evaluated", "up to date", "refused", "prediction is gone"


def model_and_seed(prediction: str) -> tuple[str, int | None]:
    """Return the model and seed of ``<model>/seed<k>``; any other name is a model's, without a seed."""
    model, _, seed = prediction.rpartition("/seed")
    return (model, int(seed)) if model and seed.isdigit() else (prediction, None)


def valid_predictions(evaluation_log: pd.DataFrame) -> list[str]:
    """Return the names of the predictions of a log that have scores: those evaluated or up to date."""
    return list(evaluation_log.loc[evaluation_log["status"].isin((EVALUATED, UP_TO_DATE)), "prediction"])


def valid_scores(scores: Mapping[str, Callable[[], pd.DataFrame]], evaluation_log: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of all valid predictions in one table.

    Parameters
    ----------
    scores
        For each prediction, by name, a function that reads its scores.
    evaluation_log
        Columns ``prediction`` and ``status``.
    """
    return pd.concat([scores[name]() for name in valid_predictions(evaluation_log)], ignore_index=True)


def tables_by_model(tables: Iterable[str], evaluation_log: pd.DataFrame, models: Sequence[str]) -> dict[str, list[str]]:
    """Return the names of valid predictions by model, seeds in order; models without any are left out.

    Parameters
    ----------
    tables
        Names of the predictions to choose from.
    evaluation_log
        Columns ``prediction`` and ``status``.
    models
        The models in the order of the result.
    """
    names = sorted(set(valid_predictions(evaluation_log)) & set(tables), key=lambda name: model_and_seed(name)[1] or 0)
    by_model = {model: [name for name in names if model_and_seed(name)[0] == model] for model in models}
    return {model: found for model, found in by_model.items() if found}


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
