"""What of a grid runs, in which order, and what is told; with processes that only pretend."""

import io
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace

import anndata as ad
import numpy as np
import pytest
from rich.console import Console

from perturbench.errors import PerturbenchError
from perturbench.grid import processes
from perturbench.grid.benchmark import Benchmark, commands, plan
from perturbench.grid.processes import Job, Outcome, failure_of, gpu_slots, last_error
from perturbench.grid.progress import Progress
from perturbench.grid.runs import Run, needs_training, stale_because
from perturbench.grid.suites import Suite, choose
from perturbench.grid.task import Params, TaskOfGrid
from perturbench.grid.task_data import known_inputs
from perturbench.provenance import Stamp

STAMP = Stamp.make(
    "demo",
    "ridge",
    0,
    inputs={"cells": "a", "split": "b"},
    settings={"hyperparameters": {"penalty": 0.1}, "prediction": {"part": "test"}},
    code={"model": "c", "prediction": "d"},
)


def save(path, stamp):
    ad.AnnData(np.ones((2, 3)), uns={"perturbench": stamp.text()}).write_h5ad(path)
    return path


@pytest.fixture
def prediction(tmp_path):
    return save(tmp_path / "seed0.h5ad", STAMP)


def test_a_prediction_with_the_stamp_of_a_new_run_is_up_to_date(prediction):
    assert stale_because(STAMP, prediction) is None


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (STAMP.extend(inputs={"split": "other"}), "split"),
        (STAMP.extend(inputs={"cells": "other"}), "cells"),
        (STAMP.extend(inputs={"embedding X": "e"}), "embedding X"),
        (STAMP.extend(settings={"hyperparameters": {"penalty": 1.0}}), "hyperparameters: penalty (1.0, was 0.1)"),
        (STAMP.extend(settings={"prediction": {"part": "val"}}), "prediction settings: part (val, was test)"),
        (STAMP.extend(code={"model": "other"}), "code of the model"),
        (replace(STAMP, seed=1), "seed (1, was 0)"),
        (replace(STAMP, version="2"), f"version (2, was {STAMP.version})"),
    ],
)
def test_what_changed_is_named(prediction, changed, reason):
    assert stale_because(changed, prediction) == f"stale: {reason}"


def test_other_prediction_settings_need_no_training(prediction, tmp_path):
    changed = STAMP.extend(settings={"prediction": {"part": "val"}}, code={"prediction": "other"})
    assert stale_because(changed, prediction)
    assert not needs_training(changed, prediction)
    assert needs_training(changed.extend(code={"model": "other"}), prediction)
    assert needs_training(STAMP, tmp_path / "seed1.h5ad")


def test_missing_torn_and_foreign_predictions_are_stale(tmp_path):
    path = tmp_path / "seed0.h5ad"
    assert stale_because(STAMP, path) == "no prediction yet"
    path.write_text("torn")
    assert stale_because(STAMP, path) == "the prediction has no readable stamp"
    ad.AnnData(np.ones((2, 3))).write_h5ad(path)
    assert stale_because(STAMP, path) == "the prediction has no readable stamp"


@pytest.mark.parametrize(
    ("trainer", "differences"),
    [
        ({"num_workers": 2, "preload_to_device": True}, []),
        ({"batch_size": 7}, ["trainer: batch_size (7, was 256)"]),
    ],
)
def test_how_batches_are_loaded_makes_nothing_stale(project, trainer, differences):
    run = Run("demo", "cpa", 0)
    before, now = (
        TaskOfGrid(project, "demo", params).expected_stamp(run, {})
        for params in (Params(), Params((), {"trainer": trainer}))
    )
    assert now.differences(before) == differences


def test_what_is_up_to_date_is_decided_without_the_heavy_libraries(project):
    code = (
        "import sys; from perturbench.cli import benchmark\n"
        "from pathlib import Path\n"
        "from kedro.framework.startup import bootstrap_project; bootstrap_project(Path('.'))\n"
        "benchmark(['--suite=demo', '--dry-run'], standalone_mode=False)\n"
        "heavy = {'torch', 'lightning', 'mlflow', 'ray'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=project, check=True, capture_output=True)


def test_data_is_made_again_if_parameters_or_a_file_changed(tmp_path):
    record, file = tmp_path / "grid.json", tmp_path / "split.parquet"
    cells = Stamp.make("demo", settings={"splitter": {"seed": 1}}, code={"splitter": "c"})
    embedded = cells.extend(settings={"embedding": {"seed": 1}}, code={"embedding": "e"})
    assert known_inputs(record, cells, [file]) == (None, "it was not made by kedro benchmark")
    file.write_text("1")
    states = {str(file): [1, file.stat().st_mtime_ns]}
    record.write_text(json.dumps({"perturbench": embedded.text(), "files": states, "inputs": {"split": "b"}}))
    assert known_inputs(record, cells, [file]) == ({"split": "b"}, ""), "no embedding is asked for"
    assert known_inputs(record, embedded, [file]) == ({"split": "b"}, "")
    for changed, reason in [
        (embedded.extend(settings={"embedding": {"seed": 2}}), "embedding: seed (2, was 1)"),
        (cells.extend(settings={"splitter": {"seed": 2}}), "splitter: seed (2, was 1)"),
        (cells.extend(code={"splitter": "other"}), "code of the splitter"),
    ]:
        assert known_inputs(record, changed, [file]) == (None, f"stale: {reason}")
    os.utime(file, ns=(0, 0))
    assert known_inputs(record, cells, [file]) == (None, f"stale: file {file}")
    record.write_text("torn")
    assert known_inputs(record, cells, [file])[0] is None


class PretendedTask:
    """A task whose processes do nothing; ``stale`` are the runs to run, ``data`` is whether its data is there."""

    def __init__(self, name, folder, stale=(), data=True):
        self.name, self._folder, self._stale, self._data = name, folder, stale, data

    def inputs(self):
        return ({"split": "b"}, "") if self._data else (None, "it does not exist yet")

    record_inputs = lambda self: {"split": "b"}  # noqa: E731

    def stale_because(self, run, inputs):
        return "no prediction yet" if run in self._stale else None

    def _job(self, name):
        return Job(name, ("run", name), self._folder, self._folder / f"{name.replace('/', '-')}.log")

    def data_job(self):
        return self._job(f"{self.name}: data")

    def run_job(self, run, inputs):
        return self._job(run.name)

    def report_job(self):
        return self._job(f"{self.name}: report")

    def prediction_of(self, run):
        return self._folder / f"{run.task}-{run.model}.h5ad"


RUNS = [Run(task, model, 0) for task in ("a", "b") for model in ("x", "y")]


@pytest.fixture
def ran():
    return []


@pytest.fixture
def run_grid(tmp_path, ran):
    """Return a function that runs the grid of RUNS: the names in ``failing`` fail."""

    def execute(job):
        ran.append(job.name)
        return Outcome(1 if job.name in failing else 0, 1.0)

    failing = set()

    def run(stale=(), data=True, fail=()):
        failing.update(fail)
        tasks = {name: PretendedTask(name, tmp_path, stale, data) for name in ("a", "b")}
        text = io.StringIO()
        with Progress(RUNS, Console(file=text, width=200)) as progress:
            grid = Benchmark(RUNS, tasks, lambda jobs: ((job, execute(job)) for job in jobs), progress, execute)
            grid()
        return grid, text.getvalue()

    return run


def test_only_stale_runs_are_run_and_every_task_is_reported(run_grid, ran):
    grid, text = run_grid(stale=[RUNS[1]])
    assert sorted(ran) == ["a/y/seed0", "a: report", "b: report"]
    assert ran.index("a/y/seed0") < ran.index("a: report")
    assert grid.failures == {} and set(grid.reported) == {"a", "b"}
    assert "a/x/seed0: up to date" in text and "[4/4] a/y/seed0: done" in text


def test_a_failed_run_does_not_stop_the_others(run_grid, ran, tmp_path):
    (tmp_path / "a-y.h5ad").touch()
    grid, text = run_grid(stale=RUNS, fail=["a/x/seed0"])
    assert ran == ["a/x/seed0", "a/y/seed0", "a: report", "b/x/seed0", "b/y/seed0", "b: report"]
    assert grid.failures == {"a/x/seed0": "exit status 1 (a-x-seed0.log)"}
    assert "a/x/seed0: failed" in text


def test_an_earlier_prediction_of_a_failed_run_is_told(run_grid, tmp_path):
    (tmp_path / "a-x.h5ad").touch()
    grid, _ = run_grid(stale=RUNS, fail=["a/x/seed0"])
    assert grid.failures["a/x/seed0"].endswith("; its earlier prediction is kept")


def test_a_task_without_a_good_run_is_not_reported(run_grid, ran):
    grid, _ = run_grid(stale=RUNS, fail=["a/x/seed0", "a/y/seed0"])
    assert "a: report" not in ran and grid.reported == ["b"]


def test_missing_data_is_made_first_and_its_failure_is_of_its_task_only(run_grid, ran):
    grid, text = run_grid(stale=RUNS, data=False, fail=["a: data"])
    assert "a: making the data (it does not exist yet)" in text
    assert ran == ["a: data", "b: data", "b/x/seed0", "b/y/seed0", "b: report"]
    assert list(grid.failures) == ["a: data"]
    assert "a/x/seed0: failed (the task's data could not be made)" in text


def test_commands_of_what_would_run(tmp_path):
    tasks = {"a": PretendedTask("a", tmp_path, [RUNS[0]]), "b": PretendedTask("b", tmp_path, data=False)}
    names = ["a/x/seed0", "'a: report'", "'b: data'", "b/x/seed0", "b/y/seed0", "'b: report'"]
    assert list(commands(RUNS, tasks)) == [f"kedro run {name}" for name in names]


def test_models_without_published_hyperparameters_are_left_out(project):
    published = Params(("hyperparameters:published",), {"hyperparameters": "published"})
    tasks = {name: TaskOfGrid(project, name, published) for name in ("norman19", "jiang24")}
    suite = Suite(tasks=tuple(tasks), models=("biolord", "gears", "cpa"), seeds=(0, 1))
    runs, left_out = plan(suite, tasks)
    assert [run.name for run in runs] == [
        f"{task}/{model}/seed{seed}"
        for task, model in [("norman19", "biolord"), ("norman19", "cpa"), ("jiang24", "cpa")]
        for seed in (0, 1)
    ]
    assert len(left_out) == 3
    assert "left out: no published hyperparameters of 'biolord' for task 'jiang24'" in left_out[1]


def test_every_suite_can_be_planned(load_config, project):
    suites = load_config()["suites"]
    models = {path.stem for path in (project / "conf/base/parameters/models").glob("*.yml")}
    for name in suites:
        suite = choose(suites, name, "")
        assert set(suite.models) <= models
        for task in suite.tasks:
            assert load_config(task=task)["parameters"]["task"] == task
    need_files = {"cpa_scgpt", "latent_additive_scgpt"}
    assert set(suites["demo"]["models"]) == models - need_files
    assert set(choose(suites, "paper", "").seeds) == set(range(5))
    for name in ("paper", "paper_scgpt"):
        assert "evaluation.metrics:paper" in choose(suites, name, "").params.split(",")
    assert not need_files & set(suites["paper"]["models"])


def test_options_replace_what_a_suite_says():
    suites = {"s": {"tasks": ["a"], "models": ["x"], "params": "p:1"}}
    suite = choose(suites, "s", "q:2", tasks=[], models=["y"], seeds=["1", "2"])
    assert suite == Suite(tasks=("a",), models=("y",), seeds=(1, 2), params="p:1,q:2")
    with pytest.raises(PerturbenchError, match="unknown suite 't'; choose one of: s"):
        choose(suites, "t", "")


def test_the_error_of_a_log_is_one_line(tmp_path):
    log = ["INFO training", "Traceback ...", "ValueError: no such gene", "", "INFO  run is closed"]
    assert last_error(log) == "ValueError: no such gene"
    assert last_error(["Usage: ...", "Error: unknown task 'x'"]) == "unknown task 'x'"
    assert last_error(["nothing to see"]) == "nothing to see"
    job = Job("x", (), tmp_path, tmp_path / "none.log")
    assert failure_of(job, Outcome(-9, 1.0)) == "killed by signal 9"
    assert failure_of(job, Outcome(3, 1.0)) == "exit status 3"


def test_a_terminal_shows_a_table_of_states(tmp_path):
    text = io.StringIO()
    console = Console(file=text, width=120, force_terminal=True)
    with Progress(RUNS, console) as progress:
        progress.expect({RUNS[0]: tmp_path / "x.log", RUNS[1]: tmp_path / "y.log"})
        (tmp_path / "x.log").write_text("started")
        progress.end(RUNS[3], "failed", "3 s")
        table = progress.table()
    columns = {column.header: list(column.cells) for column in table.columns}
    assert columns == {
        "task": ["a", "b"],
        "up to date": ["0", "0"],
        "done": ["0", "0"],
        "failed": ["0", "1"],
        "running": ["1", "0"],
        "waiting": ["1", "1"],
    }
    assert table.caption == "a/x/seed0 0:00"


def test_runs_are_spread_over_the_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert gpu_slots(3) == [{"CUDA_VISIBLE_DEVICES": "2"}, {"CUDA_VISIBLE_DEVICES": "5"}, {"CUDA_VISIBLE_DEVICES": "2"}]
    seen, barrier = [], threading.Barrier(2)

    def record(job, stop, warm):
        barrier.wait(20)
        seen.append((job.name, job.variables["CUDA_VISIBLE_DEVICES"]))
        return Outcome(0, 0.0)

    monkeypatch.setattr(processes, "execute", record)
    jobs = [Job(name, (), tmp_path, tmp_path / "log") for name in "abcd"]
    assert len(list(processes.run_local(jobs, gpu_slots(2)))) == 4
    assert sorted(gpu for _, gpu in seen) == ["2", "2", "5", "5"]


def test_without_gpus_runs_have_no_device(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(processes, "_n_gpus", lambda: 0)
    assert gpu_slots(2) == [{}, {}]
