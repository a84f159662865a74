import time

import optuna
import pytest
from optuna.trial import TrialState

from perturbench.errors import PerturbenchError
from perturbench.tuning.storage import MAX_RETRIES, fail_stale_trials, retried_trials, set_up_storage
from perturbench.tuning.study import counted_trials, queue_start, run_trials


@pytest.fixture
def journal(tmp_path):
    with set_up_storage(f"journal:{tmp_path / 'folder/hpo.journal'}") as storage:
        return storage


@pytest.fixture
def study(journal):
    return optuna.create_study(storage=journal)


@pytest.fixture
def leave_a_trial_running(study, journal, monkeypatch):
    """Return a function that leaves a trial as a worker does that dies in it; it returns the trial's ``x``."""

    def leave(seconds_ago=121):
        trial = study.ask()
        trial.suggest_float("x", -1.0, 1.0)
        with monkeypatch.context() as patch:
            now = time.time()
            patch.setattr("perturbench.tuning.storage.time.time", lambda: now - seconds_ago)
            journal.record_heartbeat(trial._trial_id)
        trial.set_user_attr("worker", "elsewhere:1")
        return trial.params["x"]

    return leave


def square(trial):
    return trial.suggest_float("x", -1.0, 1.0) ** 2


def states(study):
    return [trial.state.name for trial in study.get_trials()]


def test_a_search_ends_with_its_trials_and_goes_on_when_more_are_asked_for(study, journal):
    run_trials(study, journal, square, 3)
    run_trials(study, journal, square, 3)
    assert states(study) == ["COMPLETE"] * 3
    run_trials(study, journal, square, 5)
    assert states(study) == ["COMPLETE"] * 5
    assert len({trial.params["x"] for trial in study.trials}) == 5
    assert all(trial.user_attrs["worker"] for trial in study.trials)


def test_a_resumed_search_draws_what_an_uninterrupted_one_draws(study, journal):
    run_trials(study, journal, square, 6, n_startup_trials=2, seed=3)
    resumed = optuna.create_study()
    for n_trials in (2, 5, 6):
        run_trials(resumed, journal, square, n_trials, n_startup_trials=2, seed=3)
    assert [trial.params for trial in study.trials] == [trial.params for trial in resumed.trials]


def test_a_dead_workers_trial_is_tried_again_and_counts_once(study, journal, leave_a_trial_running):
    x = leave_a_trial_running()
    run_trials(study, journal, square, 3)
    assert states(study) == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    counted = counted_trials(study)
    assert [trial.number for trial in counted] == [1, 2, 3]
    assert counted[0].params["x"] == x
    assert retried_trials(counted[0]) == [0]
    assert counted[0].user_attrs["worker"] != "elsewhere:1"


def test_a_dead_workers_start_is_tried_again(study, journal, leave_a_trial_running):
    queue_start(study, {"x": 0.25, "other": True}, {"x": 0.25})
    assert leave_a_trial_running() == 0.25
    run_trials(study, journal, square, 1)
    assert states(study) == ["FAIL", "COMPLETE"]
    assert study.trials[1].params == {"x": 0.25}
    assert study.trials[1].user_attrs["start"] == {"x": 0.25, "other": True}


def test_a_trial_that_kills_its_workers_is_given_up(study, journal, leave_a_trial_running):
    leave_a_trial_running()
    for _ in range(MAX_RETRIES):
        fail_stale_trials(study)
        leave_a_trial_running()
    run_trials(study, journal, square, 2)
    counted = counted_trials(study)
    assert [trial.state for trial in counted] == [TrialState.FAIL, TrialState.COMPLETE]
    assert len(retried_trials(counted[0])) == MAX_RETRIES


def test_a_trial_with_a_recent_heartbeat_is_left_to_its_worker(study, leave_a_trial_running):
    leave_a_trial_running(seconds_ago=110)
    study.ask()  # has had no heartbeat yet
    fail_stale_trials(study)
    assert states(study) == ["RUNNING", "RUNNING"]


def test_a_retried_trial_is_left_to_its_new_worker(study, leave_a_trial_running):
    leave_a_trial_running()
    fail_stale_trials(study)
    study.ask()
    fail_stale_trials(study)
    assert states(study) == ["FAIL", "RUNNING"]


def test_a_worker_waits_for_the_last_trial_of_another(study, journal, leave_a_trial_running, monkeypatch):
    leave_a_trial_running(seconds_ago=0)
    monkeypatch.setattr("perturbench.tuning.study.time.sleep", lambda seconds: study.tell(0, 0.5))
    run_trials(study, journal, square, 1)
    assert states(study) == ["COMPLETE"]


def test_a_trial_that_never_began_is_not_waited_for(study, journal):
    study.ask()
    run_trials(study, journal, square, 1)
    assert states(study) == ["RUNNING", "COMPLETE"]


def test_a_journals_heartbeat_goes_on_during_a_trial(tmp_path):
    with set_up_storage(f"journal:{tmp_path / 'hpo.journal'}", heartbeat=1) as journal:
        study = optuna.create_study(storage=journal)

    def train(trial):
        time.sleep(3)
        fail_stale_trials(study)
        return square(trial)

    run_trials(study, journal, train, 1)
    assert states(study) == ["COMPLETE"]


def test_errors_are_kept_and_not_fatal(study, journal):
    def fail_first(trial):
        if trial.number == 0:
            raise MemoryError("too wide")
        return square(trial)

    run_trials(study, journal, fail_first, 2)
    assert states(study) == ["FAIL", "COMPLETE"]
    assert study.trials[0].user_attrs["error"] == "MemoryError: too wide"


def test_an_interrupted_trial_is_tried_again(study, journal):
    def interrupt(trial):
        square(trial)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trials(study, journal, interrupt, 2)
    run_trials(study, journal, square, 2)
    assert states(study) == ["FAIL", "COMPLETE", "COMPLETE"]
    assert study.trials[0].params == study.trials[1].params
    assert len(counted_trials(study)) == 2


def test_a_worker_that_was_taken_for_dead_goes_on(study, journal):
    def lose_the_first(trial):
        value = square(trial)
        if trial.number == 0:
            study.tell(trial.number, state=TrialState.FAIL)
        return value

    run_trials(study, journal, lose_the_first, 3)
    assert states(study) == ["FAIL", "COMPLETE", "COMPLETE"]


def test_start_is_tried_first_and_once(study, journal):
    for _ in range(2):
        queue_start(study, {"x": 0.25, "other": True}, {"x": 0.25})
    run_trials(study, journal, square, 3)
    assert study.trials[0].params == {"x": 0.25}
    assert [trial.user_attrs.get("start") for trial in study.trials] == [{"x": 0.25, "other": True}, None, None]


def test_another_start_is_tried_though_the_study_has_its_trials(study, journal):
    run_trials(study, journal, square, 2)
    queue_start(study, {"x": 0.25}, {"x": 0.25})
    run_trials(study, journal, square, 2)
    assert states(study) == ["COMPLETE"] * 3
    assert study.trials[2].params == {"x": 0.25}


def test_start_outside_the_space_leaves_the_sampler_its_joint_space(study, journal):
    queue_start(study, {"x": 99.0, "y": 0}, {})

    def objective(trial):
        if "start" in trial.user_attrs:
            return 1.0
        return square(trial) + trial.suggest_int("y", 1, 4)

    run_trials(study, journal, objective, 9, n_startup_trials=3)
    assert study.sampler.infer_relative_search_space(study, study.trials[-1]).keys() == {"x", "y"}


def test_a_missing_driver_is_told(monkeypatch):
    monkeypatch.setattr("perturbench.tuning.storage.find_spec", lambda name: None)
    with (
        pytest.raises(PerturbenchError, match=r"needs psycopg: pip install 'perturbench\[postgres\]'"),
        set_up_storage("postgresql://me@db/hpo"),
    ):
        pass
