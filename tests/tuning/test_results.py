import json

import optuna
import pytest

from perturbench.tuning.results import plot_history, plot_importance, trials_table
from perturbench.tuning.search_space import distributions, searched_part
from perturbench.tuning.storage import set_up_storage
from perturbench.tuning.study import run_trials

SPACE = {"x": {"kind": "float", "low": -1.0, "high": 1.0}, "y": {"kind": "categorical", "choices": [1, 2]}}


@pytest.fixture
def table(tmp_path):
    """Return a function that runs trials and makes their table."""

    def make(value, n_trials):
        def objective(trial):
            x, y = trial.suggest_float("x", -1.0, 1.0), trial.suggest_categorical("y", [1, 2])
            trial.set_user_attr("hparams", {"x": x, "y": y, "fixed": "f"})
            found = value(trial.number, x)
            trial.set_user_attr("metrics", {"rmse_average": found})
            return found

        with set_up_storage(f"journal:{tmp_path / 'hpo.journal'}") as storage:
            study = optuna.create_study(storage=storage)
        run_trials(study, storage, objective, n_trials)
        return trials_table(study)

    return make


def some_fail_and_some_are_pruned(number, x):
    if number == 1:
        raise RuntimeError("out of memory")
    if number == 2:
        raise optuna.TrialPruned
    return x


def words(figure):
    return [annotation.text for annotation in figure.layout.annotations]


def test_table(table):
    trials = table(some_fail_and_some_are_pruned, 4)
    assert trials["state"].tolist() == ["COMPLETE", "FAIL", "PRUNED", "COMPLETE"]
    assert trials["error"].tolist() == [None, "RuntimeError: out of memory", None, None]
    assert json.loads(trials["hparams"][1])["fixed"] == "f"
    assert trials["val_rmse_average"].equals(trials["value"])
    assert trials["retries"].tolist() == [0] * 4


def test_figures(table):
    trials = table(some_fail_and_some_are_pruned, 8)
    history = plot_history(trials, "search")
    assert len(history.data[0].x) == 6, "completed trials"
    assert history.layout.title.text == "search"
    (bars,) = plot_importance(trials, SPACE, "importance").data
    assert sorted(bars.y) == ["x", "y"]
    assert bars.y[-1] == "x", "the value is x"


@pytest.mark.parametrize(("shift", "kind"), [(2, "log"), (-2, None)])
def test_an_objective_above_zero_has_a_logarithmic_axis(table, shift, kind):
    assert plot_history(table(lambda number, x: x + shift, 3), "").layout.yaxis.type == kind


def test_trials_outside_the_space_are_in_the_history_alone(table):
    trials = table(lambda number, x: x, 4)
    trials.loc[0, "hparams"] = json.dumps({"x": 50.0, "y": 3})
    assert len(plot_history(trials, "").data[0].x) == 4
    assert plot_importance(trials, SPACE, "").data


@pytest.mark.parametrize(("value", "n_trials"), [(lambda number, x: x, 1), (lambda number, x: 1.0, 4)])
def test_one_trial_or_one_value_has_no_importance(table, value, n_trials):
    trials = table(value, n_trials)
    assert len(plot_history(trials, "").data[0].x) == n_trials
    figure = plot_importance(trials, SPACE, "")
    assert not figure.data
    assert words(figure) == ["fewer than two completed trials with different values: nothing to compare"]


def test_without_a_completed_trial(table):
    def fail(number, x):
        raise RuntimeError("no")

    trials = table(fail, 2)
    assert words(plot_history(trials, "")) == ["no trial was completed"]
    assert not plot_importance(trials, SPACE, "").data


@pytest.mark.parametrize(
    ("hparams", "part"),
    [
        ({"x": 0.5, "y": 2, "fixed": 1}, {"x": 0.5, "y": 2}),
        ({"x": 1.5, "y": 2}, {}),
        ({"x": 0.5, "y": 3}, {}),
        ({"x": None, "y": 1}, {}),
        ({"y": 1}, {}),
    ],
)
def test_searched_part(hparams, part):
    assert searched_part(hparams, distributions(SPACE)) == part
