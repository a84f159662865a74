"""The trials of a search: as a table, and the figures that are drawn of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import optuna
import pandas as pd
import plotly.graph_objects as go
from optuna.trial import TrialState

from perturbench.tuning.retries import counted_trials
from perturbench.tuning.search_space import distributions, searched_part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna.trial import FrozenTrial

_METRIC = "val_"


def trials_table(study: optuna.Study) -> pd.DataFrame:
    """Return the finished trials that count, one row each.

    Parameters
    ----------
    study
        Its trials have the user attributes ``hparams``, ``metrics`` and, where they failed, ``error``.

    Returns
    -------
    ``number``, ``state`` (``COMPLETE``, ``PRUNED`` or ``FAIL``), ``value`` (the objective; of a pruned trial its last
    ``val_loss``), ``seconds``, ``start`` (whether the search started from it), ``retries`` (workers that died in it),
    ``worker``, ``hparams`` (all of them, as JSON), ``error``, and ``val_<metric>``.
    """
    finished = [trial for trial in counted_trials(study) if trial.state.is_finished()]
    columns = ("number", "state", "value", "seconds", "start", "retries", "worker", "hparams", "error")
    return pd.DataFrame([_row(trial) for trial in finished], columns=None if finished else columns)


def _row(trial: FrozenTrial) -> dict[str, Any]:
    attributes = trial.user_attrs
    retries = len(attributes.get("attempts", ()))
    error = attributes.get("error")
    if trial.state == TrialState.FAIL and error is None:
        error = f"its worker died {retries + 1} times; too little memory is one reason"
    return {
        "number": trial.number,
        "state": trial.state.name,
        "value": trial.value,
        "seconds": trial.duration.total_seconds() if trial.duration else None,
        "start": "start" in attributes,
        "retries": retries,
        "worker": attributes.get("worker"),
        "hparams": json.dumps(attributes.get("hparams", trial.params), sort_keys=True),
        "error": error,
        **{f"{_METRIC}{name}": value for name, value in attributes.get("metrics", {}).items()},
    }


def plot_history(trials: pd.DataFrame, title: str) -> go.Figure:
    """Draw the objective of each trial, and the best up to it.

    Parameters
    ----------
    trials
        See :func:`trials_table`.
    title
        Of the figure.
    """
    values = trials.loc[trials["state"] == "COMPLETE", "value"]
    if values.empty:
        return _plain_words("no trial was completed", title)
    figure = optuna.visualization.plot_optimization_history(_study(trials, {}), target_name="objective")
    if (values > 0).all():  # a few bad trials would flatten the others
        figure.update_yaxes(type="log", dtick="D2")
    return figure.update_layout(title=title, template="plotly_white")


def plot_importance(trials: pd.DataFrame, space: Mapping[str, Mapping[str, Any]], title: str) -> go.Figure:
    """Draw how much each hyperparameter mattered for the objective, by fANOVA; in plain words why not, if it cannot be.

    Parameters
    ----------
    trials
        See :func:`trials_table`. Completed trials whose hyperparameters lie in the search space are compared.
    space
        The search space.
    title
        Of the figure.

    Notes
    -----
    Hutter, Hoos, Leyton-Brown (2014), An efficient approach for assessing hyperparameter importance.
    """
    study = _study(trials, space)
    values = {
        trial.value for trial in study.get_trials(deepcopy=False) if trial.params and trial.state.name == "COMPLETE"
    }
    if len(values) < 2:
        return _plain_words("fewer than two completed trials that differ: nothing to compare", title)
    compared = optuna.create_study()
    compared.add_trials([trial for trial in study.get_trials(deepcopy=False) if trial.params])
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    figure = optuna.visualization.plot_param_importances(compared, evaluator=evaluator, target_name="objective")
    return figure.update_layout(title=title, template="plotly_white")


def _study(trials: pd.DataFrame, space: Mapping[str, Mapping[str, Any]]) -> optuna.Study:
    """Return a study in memory with these trials; those outside the search space have no parameters."""
    study, of_space = optuna.create_study(), distributions(space)
    for row in trials.itertuples():
        params = searched_part(json.loads(row.hparams), of_space)
        state = TrialState[row.state]
        study.add_trial(
            optuna.create_trial(
                state=state,
                params=params,
                distributions=of_space if params else {},
                value=row.value if state == TrialState.COMPLETE else None,
            )
        )
    return study


def _plain_words(words: str, title: str) -> go.Figure:
    figure = go.Figure(layout={"title": title, "template": "plotly_white"})
    figure.add_annotation(text=words, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
    return figure.update_xaxes(visible=False).update_yaxes(visible=False)
