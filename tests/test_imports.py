"""Commands that neither train nor search start fast: they import no library that only those need."""

import os
import subprocess
import sys

import pytest
import yaml
from tests.projects import TINY, caller, copy_project

HEAVY = {"torch", "lightning", "optuna", "mlflow"}
MAINS = {"kedro": "kedro.framework.cli", "perturbench": "perturbench.cli.main"}


@pytest.fixture(scope="module")
def root(project, tmp_path_factory):
    """A project in which one model has predicted and been scored."""
    folder = copy_project(project, tmp_path_factory.mktemp("project"))
    (folder / "conf/local/parameters.yml").write_text(yaml.safe_dump({**TINY, "model": "control"}))
    caller(folder)("run")
    return folder


def imported(root, *command, tracking="on"):
    """Call a command as its script does, in a new process; return the heavy libraries that it imports."""
    code = (
        f"import sys; from {MAINS[command[0]]} import main; sys.argv = {list(command)}\n"
        "try: main()\n"
        "except SystemExit as ended: assert not ended.code, ended.code\n"
        f"print('imported:', *({HEAVY} & set(sys.modules)))"
    )
    environment = {**os.environ, "PERTURBENCH_TRACKING": tracking}
    python = [sys.executable, "-c", code]
    result = subprocess.run(python, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return set(result.stdout.splitlines()[-1].removeprefix("imported:").split())


@pytest.mark.parametrize("pipelines", ["ingestion,splitting,preprocessing", "evaluation,reporting"])
def test_pipelines_that_train_nothing(root, pipelines):
    assert imported(root, "kedro", "run", f"--pipelines={pipelines}") == set()


def test_new_scores_need_mlflow_only_where_they_are_tracked(root):
    evaluation = ["kedro", "run", "--pipeline=evaluation"]
    assert imported(root, *evaluation, "--params=evaluation.metrics=paper", tracking="off") == set()
    assert imported(root, *evaluation, tracking="on") == {"mlflow"}
    assert imported(root, *evaluation, tracking="on") == set(), "nothing is new"


def test_training_needs_them(root):
    """The other tests of this file could not fail if this one did not find the libraries."""
    assert imported(root, "kedro", "run", "--pipeline=modeling") == {"torch", "lightning", "mlflow"}


@pytest.mark.parametrize("command", [["kedro", "registry", "list"], ["perturbench", "data", "list"]], ids=" ".join)
def test_commands_that_compute_nothing(root, command):
    assert imported(root, *command) == set()


def test_scoring_files(root, tmp_path):
    files = {
        "predictions": root / "data/07_model_output/simulated/control/seed0.h5ad",
        "reference": root / "data/03_primary/simulated/prepared.h5ad",
    }
    options = [f"--{name}={path}" for name, path in files.items()]
    settings = ["--covariate-keys=cell_type", "--missing=report", f"--output={tmp_path}"]
    assert imported(root, "perturbench", "evaluate", *options, *settings) == set()
    assert (tmp_path / "report.html").is_file()
