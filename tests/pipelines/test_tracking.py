"""MLflow: a Kedro run is one MLflow run with parameters, curves and scores; a search has a child run per trial."""

import os
import subprocess
import sys

import mlflow
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from perturbench.pipelines.tracking import RunTracker, TrackingConfig

SIZE = "data.source.simulation.n_cells=600,data.source.simulation.n_genes=30,data.source.simulation.n_states=2"


@pytest.fixture
def tracked(project_copy):
    """Call kedro with tracking on, as users do; return a client of its store."""

    def call(*arguments, fails=False):
        environment = {**os.environ, "PERTURBENCH_TRACKING": "on"}
        command = [sys.executable, "-m", "kedro", "run", "--env=test", *arguments]
        result = subprocess.run(command, cwd=project_copy, env=environment, capture_output=True, text=True, check=False)
        assert (result.returncode != 0) == fails, result.stdout + result.stderr
        client = MlflowClient(f"sqlite:///{project_copy / 'mlflow.db'}")
        return client.search_runs([client.get_experiment_by_name("perturbench").experiment_id])

    return call


@pytest.fixture
def store(tmp_path):
    """Settings of a store; MLflow's own are restored."""
    before = mlflow.get_tracking_uri()
    yield TrackingConfig(
        tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}",
        artifacts=str(tmp_path / "mlruns"),
        experiment="mine",
        run_name="demo-control-seed0",
    )
    mlflow.set_tracking_uri(before)


def test_a_run_and_a_search(tracked):
    params = f"--params=task=simulated,model=linear_additive,{SIZE}"
    (run,) = tracked(params)
    assert run.info.run_name == "simulated-linear_additive-seed0"
    assert run.info.status == "FINISHED"
    assert run.info.artifact_uri.startswith("/") and "/mlruns/" in run.info.artifact_uri
    assert run.data.tags["env"] == "test"
    assert run.data.params["trainer.max_epochs"] == "2"
    assert run.data.params["hparams.lr"] == "0.001"
    assert run.data.params["preprocessing.n_top_genes"] == "4000", "of a node before the first that trains"
    assert {"train_loss", "val_loss", "linear_additive/rmse_average"} <= set(run.data.metrics)

    runs = tracked("--pipeline=hpo", f"{params},hpo.n_trials=2,hpo.n_startup_trials=2")
    children = [child for child in runs if "mlflow.parentRunId" in child.data.tags]
    assert len(children) == 2
    for child in children:
        assert {"lr", "wd"} <= set(child.data.params)
        assert "val/rmse_average" in child.data.metrics
        assert child.info.status == "FINISHED"


def test_only_new_scores_are_tracked(tracked, project_copy):
    task = project_copy / "conf/base/parameters/tasks/simulated.yml"
    task.write_text(
        task.read_text().replace(
            "dataset: simulated\n", "dataset: simulated\n      rename_perturbations: {P01: 'ENMD (x)'}\n"
        )
    )
    params = f"--params=task=simulated,model=control,{SIZE}"
    assert len(tracked(params)) == 1, "names that MLflow does not take do not fail a run"
    folder = project_copy / "data/07_model_output/simulated"
    (folder / "csc \u00fcber+1.h5ad").write_bytes((folder / "control/seed0.h5ad").read_bytes())
    evaluation, _ = tracked("--pipeline=evaluation", params)
    assert "csc _ber_1/rmse_average" in evaluation.data.metrics
    assert evaluation.info.status == "FINISHED"
    assert len(tracked("--pipelines=evaluation,reporting", params)) == 2, "nothing is new"

    failed, *_ = tracked("--pipeline=modeling", f"{params},data.embedding_key=X_none", fails=True)
    assert failed.info.status == "FAILED"
    assert failed.data.params["data.embedding_key"] == "X_none"


def test_two_runs_may_create_the_store_at_once(store, tmp_path):
    code = (
        "from perturbench.pipelines.tracking import RunTracker, TrackingConfig\n"
        f"RunTracker(TrackingConfig(**{store.model_dump()!r}), {{}}).start()"
    )
    started = [subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path) for _ in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]


def test_a_mistake_in_the_settings_is_told_before_anything_runs(kedro, monkeypatch):
    monkeypatch.setenv("PERTURBENCH_TRACKING", "on")
    (kedro.root / "conf/local/mlflow.yml").write_text("experimnet: mine\n")
    result = kedro("run", "--params=model=control", check=False)
    assert "mlflow.yml" in result.stderr
    assert "unknown parameters: experimnet; choose among: tracking_uri, artifacts, experiment" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (kedro.root / "data/02_intermediate/demo").exists()


def test_parameters_are_kept_until_the_run_starts(store):
    tracker = RunTracker(store, {"env": "local"})
    tracker.log_params({"many": {str(number): number for number in range(150)}, "task": "demo"})
    tracker.log_leaderboard(pd.DataFrame({"model": ["control"], "rmse_average": [0.5]}))
    assert not tracker.started and mlflow.active_run() is None
    tracker.start()
    tracker.start()
    tracker.log_params({"task": "demo", "seed": 0})
    tracker.log_leaderboard(pd.DataFrame({"model": ["control"], "rmse_average": [0.25], "mmd": [float("nan")]}))
    tracker.end("FINISHED")
    assert mlflow.active_run() is None
    (run,) = MlflowClient(store.tracking_uri).search_runs(["1"])
    assert len(run.data.params) == 152
    assert run.data.params["many.149"] == "149"
    assert run.data.metrics == {"control/rmse_average": 0.25}


def test_secrets_are_masked(store):
    address, masked = "postgresql://me:SECRET@host/db", "postgresql://me:***@host/db"
    tracker = RunTracker(store, {"runtime_params": str({"hpo.storage": address})})
    tracker.log_params({"hpo": {"storage": address}, "data.rename_perturbations": {"a": address}})
    tracker.start()
    tracker.end("FINISHED")
    run = mlflow.last_active_run()
    assert run.data.params["hpo.storage"] == masked
    assert "SECRET" not in str(run.to_dictionary())


def test_a_run_inside_the_callers_is_its_child(store):
    tracker = RunTracker(store, {})
    mlflow.set_tracking_uri(store.tracking_uri)
    with mlflow.start_run(experiment_id="0") as notebook:
        tracker.start()
        mlflow.start_run(experiment_id="0", nested=True)
        tracker.end("FAILED")
        assert mlflow.active_run().info.run_id == notebook.info.run_id
    statuses = sorted(run.info.status for run in MlflowClient(store.tracking_uri).search_runs(["0"]))
    assert statuses == ["FAILED", "FAILED", "FINISHED"]
