"""The trials of a search as a table, and figures drawn from the table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import optuna
import pandas as pd
import plotly.graph_objects as go
from optuna.trial import TrialState

from perturbench.tuning.search_space import distributions, searched_part
from perturbench.tuning.storage import retried_trials
from perturbench.tuning.study import counted_trials

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna.trial import FrozenTrial

_METRIC = "val_"


def trials_table(study: optuna.Study) -> pd.DataFrame:
    """Return a table with one row per finished trial that counts.

    Parameters
    ----------
    study
        A study whose trials have the user attributes ``hparams``, ``metrics`` and, if they failed, ``error``.

    Returns
    -------
    Columns ``number``, ``state`` (``COMPLETE``, ``PRUNED`` or ``FAIL``), ``value`` (the objective; for a pruned trial
    the last ``val_loss``), ``seconds``, ``start`` (whether the search started from these hyperparameters), ``retries``
    (how often the trial was repeated because its worker died), ``worker``, ``hparams`` (all hyperparameters, as JSON),
    ``error``, and ``val_<metric>``.
    """
    finished = [trial for trial in counted_trials(study) if trial.state.is_finished()]
    columns = ("number", "state", "value", "seconds", "start", "retries", "worker", "hparams", "error")
    return pd.DataFrame([_row(trial) for trial in finished], columns=None if finished else columns)


def _row(trial: FrozenTrial) -> dict[str, Any]:
    attributes = trial.user_attrs
    retries = len(retried_trials(trial))
    error = attributes.get("error")
    if trial.state == TrialState.FAIL and error is None:
        error = f"the worker of this trial died {retries + 1} times; one possible reason is too little memory"
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
    """Draw the objective of each trial, and the best value so far.

    Parameters
    ----------
    trials
        See :func:`trials_table`.
    title
        Title of the figure.
    """
    values = trials.loc[trials["state"] == "COMPLETE", "value"]
    if values.empty:
        return _message_figure("no trial was completed", title)
    figure = optuna.visualization.plot_optimization_history(_study(trials, {}), target_name="objective")
    if (values > 0).all():  # on a linear axis, a few bad trials would hide the differences between the others
        figure.update_yaxes(type="log", dtick="D2")
    return figure.update_layout(title=title, template="plotly_white")


def plot_importance(trials: pd.DataFrame, space: Mapping[str, Mapping[str, Any]], title: str) -> go.Figure:
    """Draw the importance of each hyperparameter for the objective, by fANOVA.

    If fewer than two trials can be compared, the figure says so.

    Parameters
    ----------
    trials
        See :func:`trials_table`. Completed trials whose hyperparameters lie in the search space are compared.
    space
        The search space.
    title
        Title of the figure.

    Notes
    -----
    Hutter, Hoos, Leyton-Brown (2014), An efficient approach for assessing hyperparameter importance.
    """
    study = _study(trials, space)
    if len({trial.value for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}) < 2:
        return _message_figure("fewer than two completed trials with different values: nothing to compare", title)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    figure = optuna.visualization.plot_param_importances(study, evaluator=evaluator, target_name="objective")
    return figure.update_layout(title=title, template="plotly_white")


def _study(trials: pd.DataFrame, space: Mapping[str, Mapping[str, Any]]) -> optuna.Study:
    """Return a study in memory of the trials that lie in the search space; of all trials if the space is empty."""
    study, searched = optuna.create_study(), distributions(space)
    for row in trials.itertuples():
        params = searched_part(json.loads(row.hparams), searched)
        if params.keys() == searched.keys():
            state = TrialState[row.state]
            value = row.value if state == TrialState.COMPLETE else None
            study.add_trial(optuna.create_trial(state=state, params=params, distributions=searched, value=value))
    return study


def _message_figure(message: str, title: str) -> go.Figure:
    figure = go.Figure(layout={"title": title, "template": "plotly_white"})
    figure.add_annotation(text=message, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
    return figure.update_xaxes(visible=False).update_yaxes(visible=False)
