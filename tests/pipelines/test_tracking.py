"""MLflow: one run of Kedro is one run with parameters, curves and scores; a search has a child run per trial."""

import os
import subprocess
import sys

import pytest
from mlflow.tracking import MlflowClient


@pytest.fixture
def tracked(project_copy):
    """Call kedro with tracking on, as users do; return a client of its store."""

    def call(*arguments):
        environment = {**os.environ, "PERTURBENCH_TRACKING": "on"}
        command = [sys.executable, "-m", "kedro", "run", "--env=test", *arguments]
        result = subprocess.run(command, cwd=project_copy, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        client = MlflowClient(f"sqlite:///{project_copy / 'mlflow.db'}")
        return client.search_runs([client.get_experiment_by_name("perturbench").experiment_id])

    return call


def test_a_run_and_a_search(tracked):
    size = "data.source.simulation.n_cells=600,data.source.simulation.n_genes=30,data.source.simulation.n_states=2"
    params = f"--params=task=simulated,model=linear_additive,{size}"
    (run,) = tracked(params)
    assert run.info.run_name == "simulated-linear_additive-seed0"
    assert run.info.status == "FINISHED"
    assert run.data.params["trainer.max_epochs"] == "2"
    assert run.data.params["hparams.lr"] == "0.001"
    assert {"train_loss", "val_loss", "linear_additive/rmse_average"} <= set(run.data.metrics)

    runs = tracked("--pipeline=hpo", f"{params},hpo.n_trials=2,hpo.n_startup_trials=2")
    children = [child for child in runs if "mlflow.parentRunId" in child.data.tags]
    assert len(children) == 2
    for child in children:
        assert {"lr", "wd"} <= set(child.data.params)
        assert "val/rmse_average" in child.data.metrics
        assert child.info.status == "FINISHED"


def test_names_that_mlflow_does_not_take_do_not_fail_a_run(tracked, project_copy):
    task = project_copy / "conf/base/parameters/tasks/simulated.yml"
    task.write_text(
        task.read_text().replace("dataset: simulated\n", "dataset: simulated\n      rename: {P01: 'ENMD (x)'}\n")
    )
    size = "data.source.simulation.n_cells=600,data.source.simulation.n_genes=30,data.source.simulation.n_states=2"
    params = f"--params=task=simulated,model=control,{size}"
    tracked(params)
    folder = project_copy / "data/07_model_output/simulated"
    (folder / "csc \u00fcber+1.h5ad").write_bytes((folder / "control/seed0.h5ad").read_bytes())
    runs = tracked("--pipeline=evaluation", params)
    assert any("csc _ber_1/rmse_average" in run.data.metrics for run in runs)
