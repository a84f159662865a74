import optuna
import pytest
from optuna.trial import TrialState

from perturbench.errors import PerturbenchError
from perturbench.tuning.retries import MAX_RETRIES, counted_trials
from perturbench.tuning.storage import JournalFile, open_storage
from perturbench.tuning.study import queue_start, run_trials


@pytest.fixture
def journal(tmp_path):
    with JournalFile(tmp_path / "hpo.journal") as storage:
        yield storage


@pytest.fixture
def study(journal):
    return optuna.create_study(storage=journal.storage)


def square(trial):
    return trial.suggest_float("x", -1.0, 1.0) ** 2


def leave_a_trial_running(study, worker="elsewhere:1:dead"):
    """As a worker does that is killed in a trial."""
    trial = study.ask()
    trial.suggest_float("x", -1.0, 1.0)
    if worker:
        trial.set_user_attr("worker", worker)
    return trial.params["x"]


def states(study):
    return [trial.state.name for trial in study.get_trials()]


def test_exactly_as_many_trials_as_wanted_and_more_when_more_are_wanted(study, journal):
    run_trials(study, journal, square, 3)
    run_trials(study, journal, square, 3)
    assert states(study) == ["COMPLETE"] * 3
    run_trials(study, journal, square, 5)
    assert states(study) == ["COMPLETE"] * 5
    assert len({trial.params["x"] for trial in study.trials}) == 5
    assert {trial.user_attrs["worker"] for trial in study.trials} == {journal.worker}


@pytest.mark.parametrize("worker", ["elsewhere:1:dead", None])
def test_a_dead_workers_trial_is_tried_again_and_counts_once(study, journal, worker):
    x = leave_a_trial_running(study, worker)
    run_trials(study, journal, square, 3)
    assert states(study) == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    counted = counted_trials(study)
    assert [trial.number for trial in counted] == [1, 2, 3]
    assert counted[0].params["x"] == x
    assert counted[0].user_attrs["attempts"] == [0]


def test_a_trial_that_kills_its_workers_is_given_up(study, journal):
    leave_a_trial_running(study)
    for _ in range(MAX_RETRIES):
        journal.recover(study)
        leave_a_trial_running(study)
    run_trials(study, journal, square, 2)
    counted = counted_trials(study)
    assert [trial.state for trial in counted] == [TrialState.FAIL, TrialState.COMPLETE]
    assert len(counted[0].user_attrs["attempts"]) == MAX_RETRIES


def test_another_workers_trial_is_left_to_it(study, journal, tmp_path):
    with JournalFile(tmp_path / "hpo.journal") as other:
        trial = study.ask()
        other.sign(trial)
        journal.recover(study)
        assert states(study) == ["RUNNING"]
    journal.recover(study)
    assert states(study) == ["FAIL", "WAITING"]


def test_a_worker_waits_for_the_last_trial_of_another(study, journal, tmp_path, monkeypatch):
    other = JournalFile(tmp_path / "hpo.journal")
    trial = study.ask()
    other.sign(trial)

    def finish(seconds):
        study.tell(trial, 0.5)
        other.close()

    monkeypatch.setattr("perturbench.tuning.study.time.sleep", finish)
    run_trials(study, journal, square, 1)
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
        queue_start(study, {"x": 0.25, "other": True}, {"x": 0.25}, 3)
    run_trials(study, journal, square, 3)
    assert study.trials[0].params == {"x": 0.25}
    assert [trial.user_attrs.get("start") for trial in study.trials] == [{"x": 0.25, "other": True}, None, None]


def test_start_that_finds_no_trial_left_is_told(study, journal, caplog):
    run_trials(study, journal, square, 1)
    queue_start(study, {"x": 0.25}, {"x": 0.25}, 1)
    assert "the hyperparameters to start from are not tried" in caplog.text
    assert states(study) == ["COMPLETE"]


def test_start_outside_the_space_leaves_the_sampler_its_joint_space(study, journal):
    queue_start(study, {"x": 99.0, "y": 0}, {}, 9)

    def objective(trial):
        if "start" in trial.user_attrs:
            return 1.0
        return square(trial) + trial.suggest_int("y", 1, 4)

    run_trials(study, journal, objective, 9, n_startup_trials=3)
    assert study.sampler.infer_relative_search_space(study, study.trials[-1]).keys() == {"x", "y"}


def test_a_missing_driver_is_told(monkeypatch):
    monkeypatch.setattr("perturbench.tuning.storage.find_spec", lambda name: None)
    with pytest.raises(PerturbenchError, match=r"needs psycopg: pip install 'perturbench\[postgres\]'"):
        open_storage("postgresql://me@db/hpo")
