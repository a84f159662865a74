"""Several ``kedro run --pipeline=hpo`` share one study: no trial is lost or repeated, also if a worker is killed."""

import signal
import subprocess
import sys
import time

import optuna
import pandas as pd
import pytest
import yaml
from tests.postgres_server import serve

from perturbench.errors import PerturbenchError
from perturbench.tuning.storage import retried_trials, set_up_storage
from perturbench.tuning.study import counted_trials

SIZE = "n_cells:600,n_genes:30,n_states:2,n_singles:6,n_doubles:3"
TINIEST = [f"data.source.simulation.{item}" for item in SIZE.split(",")]
PARAMS = ["task:simulated", "model:linear_additive", "splitter.max_heldout_fraction_per_covariate:0.5", *TINIEST]


@pytest.fixture
def database():
    with serve() as address:
        yield address


@pytest.fixture
def workers(kedro):
    """Return a function that starts searches; they end with the test."""
    kedro("run", "--pipelines=ingestion,splitting,preprocessing", "--env=test", f"--params={','.join(PARAMS)}")
    started = []

    def start(number, *params):
        command = [sys.executable, "-m", "kedro", "run", "--pipeline=hpo", "--env=test"]
        command.append(f"--params={','.join([*PARAMS, 'trainer.max_epochs:1', *params])}")
        for _ in range(number):
            log = (kedro.root / f"worker{len(started)}.txt").open("w")
            started.append(subprocess.Popen(command, cwd=kedro.root, stdout=log, stderr=subprocess.STDOUT))
        return started[-number:]

    start.root = kedro.root
    yield start
    for process in started:
        process.kill()
        process.wait()


def the_study(storage):
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage)


def kill_one_in_a_trial(processes, storage):
    """Kill a worker in the middle of a trial, when all have taken some; return the trial's number."""
    ends = time.monotonic() + 240
    while time.monotonic() < ends:
        time.sleep(0.05)
        assert all(process.poll() is None for process in processes), "a worker ended before one was killed"
        if not optuna.get_all_study_names(storage):
            continue
        trials = the_study(storage).get_trials(deepcopy=False)
        if len({trial.user_attrs.get("worker") for trial in trials} - {None}) < len(processes):
            continue
        for process in processes:
            process.send_signal(signal.SIGSTOP)
            for trial in the_study(storage).get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
                if trial.user_attrs.get("worker", "").endswith(f":{process.pid}"):
                    process.kill()
                    process.wait()
                    return trial.number
            process.send_signal(signal.SIGCONT)
    raise AssertionError("no worker was seen in a trial")


def check(study, root, processes, killed, n_trials):
    """Every trial is there once, the killed one's hyperparameters were tried again, and the result is that of all.

    Workers may begin one trial more each, because they look at the study without a lock.
    """
    for process in processes:
        assert process.wait(timeout=240) in (0, -signal.SIGKILL)
    assert sum(process.returncode == 0 for process in processes) == len(processes) - 1
    everything, counted = study.get_trials(), counted_trials(study)
    assert n_trials <= len(counted) <= n_trials + len(processes)
    assert all(trial.state.is_finished() for trial in everything)
    assert "error" not in {name for trial in counted for name in trial.user_attrs}
    assert len({str(trial.params) for trial in counted}) == len(counted), "none is repeated"
    assert sum("start" in trial.user_attrs for trial in counted) == 1
    (again,) = [trial for trial in counted if killed in retried_trials(trial)]
    assert again.state == optuna.trial.TrialState.COMPLETE
    assert everything[killed].params.items() <= again.params.items()
    table = pd.read_parquet(root / "data/08_reporting/simulated/hpo/linear_additive.parquet")
    assert sorted(table["number"]) == sorted(trial.number for trial in counted)
    tuned = yaml.safe_load((root / "data/06_models/simulated/linear_additive/tuned.yml").read_text())
    assert tuned["objective"] == study.best_value


def wait_for_logs(processes, root):
    """Wait until each worker has begun its search, while the test holds the lock that they need next."""
    logs = [root / f"worker{i}.txt" for i in range(len(processes))]
    while not all("Running node: search" in path.read_text() for path in logs):
        assert all(process.poll() is None for process in processes), "a worker ended early"
        time.sleep(0.1)


def share_a_search(workers, number, n_trials, address):
    """Let workers start at the same moment, kill one in a trial, and check what the others make of it."""
    with set_up_storage(address) as storage:
        processes = workers(number, f"hpo.n_trials:{n_trials}", f"hpo.storage:{address}", "hpo.heartbeat:3")
        wait_for_logs(processes, workers.root)
    killed = kill_one_in_a_trial(processes, storage)
    check(the_study(storage), workers.root, processes, killed, n_trials)


@pytest.mark.postgres
def test_four_workers_share_a_database_and_one_is_killed(workers, database):
    share_a_search(workers, 4, 40, database)


def test_two_workers_share_a_journal_file_and_one_is_killed(workers):
    share_a_search(workers, 2, 20, f"journal:{workers.root / 'data/06_models/hpo.journal'}")


@pytest.mark.postgres
def test_a_database_that_does_not_answer_is_told(database):
    with (
        pytest.raises(PerturbenchError, match=r"hpo\.storage 'postgresql://.*/nowhere' cannot be used: .*not exist"),
        set_up_storage(database.replace("/postgres", "/nowhere")),
    ):
        pass
