"""What of a grid runs, in which order, and what is told; with processes that only pretend."""

import io
import json
import os
import subprocess
import sys

import anndata as ad
import numpy as np
import pytest
from rich.console import Console

from perturbench.errors import PerturbenchError
from perturbench.grid.benchmark import Benchmark, commands, plan
from perturbench.grid.cells import Cell, changes, needs_training, stale_because
from perturbench.grid.processes import Job, Outcome, failure_of, last_error
from perturbench.grid.progress import Progress
from perturbench.grid.suites import Suite, choose
from perturbench.grid.task import Params, TaskOfGrid
from perturbench.grid.task_data import known_inputs
from perturbench.provenance import fingerprint_module

STAMP = {
    "version": "1",
    "task": "demo",
    "model": "ridge",
    "seed": 0,
    "inputs": {"prepared": "a", "split": "b"},
    "parameters": "c",
    "code": "d",
    "hparams": json.dumps({"penalty": 0.1}),
    "prediction": json.dumps({"part": "test"}),
}


@pytest.fixture
def prediction(tmp_path):
    path = tmp_path / "seed0.h5ad"
    ad.AnnData(np.ones((2, 3)), uns={"perturbench": STAMP}).write_h5ad(path)
    return path


def test_a_prediction_with_the_stamp_of_a_new_run_is_up_to_date(prediction):
    assert stale_because(STAMP, prediction) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"inputs": {"prepared": "a", "split": "other"}}, "split"),
        ({"inputs": {"prepared": "other", "split": "b"}}, "prepared"),
        ({"inputs": {**STAMP["inputs"], "embedding X": "e"}}, "embedding X"),
        ({"parameters": "z", "hparams": json.dumps({"penalty": 1.0})}, "parameters, hyperparameters"),
        ({"prediction": json.dumps({"part": "val"})}, "prediction settings"),
        ({"code": "z"}, "the model's code"),
        ({"seed": 1}, "seed"),
        ({"version": "2"}, "version"),
    ],
)
def test_what_changed_is_named(prediction, change, reason):
    assert stale_because({**STAMP, **change}, prediction) == f"changed: {reason}"


def test_other_prediction_settings_need_no_training(prediction, tmp_path):
    settings = {"prediction": json.dumps({"part": "val"})}
    assert not needs_training({**STAMP, **settings}, prediction)
    assert needs_training({**STAMP, **settings, "code": "z"}, prediction)
    assert needs_training(STAMP, tmp_path / "seed1.h5ad")


def test_missing_torn_and_foreign_predictions_are_stale(tmp_path):
    path = tmp_path / "seed0.h5ad"
    assert stale_because(STAMP, path) == "not there yet"
    path.write_text("torn")
    assert stale_because(STAMP, path) == "the prediction has no stamp that can be read"
    ad.AnnData(np.ones((2, 3))).write_h5ad(path)
    assert stale_because(STAMP, path) == "the prediction has no stamp that can be read"


@pytest.mark.parametrize(
    ("trainer", "stale"), [({"num_workers": 2, "preload_to_device": True}, False), ({"batch_size": 7}, True)]
)
def test_how_batches_are_loaded_makes_nothing_stale(project, trainer, stale):
    cell = Cell("demo", "cpa", 0)
    stamps = [
        TaskOfGrid(project, "demo", params).expected_stamp(cell, {})
        for params in (Params(), Params((), {"trainer": trainer}))
    ]
    assert (changes(*stamps) == ["parameters"]) == stale


def test_the_order_of_hyperparameters_does_not_matter():
    one, other = ({**STAMP, "hparams": text} for text in ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}'))
    assert changes(one, other) == []


def test_the_code_of_a_model_is_part_of_its_stamp(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "model_of_a_user.py"
    module.write_text("a = 1")
    before = fingerprint_module("model_of_a_user")
    module.write_text("a = 2")
    assert fingerprint_module("model_of_a_user") not in (before, "unknown")
    assert fingerprint_module("no_such_module") == fingerprint_module("no.such.module") == "unknown"


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
    assert known_inputs(record, {"cells": "p"}, [file]) is None
    file.write_text("1")
    states = {str(file): [1, file.stat().st_mtime_ns]}
    record.write_text(
        json.dumps({"parameters": {"cells": "p", "embedding": "e"}, "files": states, "inputs": {"split": "b"}})
    )
    assert known_inputs(record, {"cells": "p"}, [file]) == {"split": "b"}, "no embedding is asked for"
    assert known_inputs(record, {"cells": "p", "embedding": "e"}, [file]) == {"split": "b"}
    assert known_inputs(record, {"cells": "p", "embedding": "other"}, [file]) is None
    assert known_inputs(record, {"cells": "other"}, [file]) is None
    os.utime(file, ns=(0, 0))
    assert known_inputs(record, {"cells": "p"}, [file]) is None
    record.write_text("torn")
    assert known_inputs(record, {"cells": "p"}, [file]) is None


class PretendedTask:
    """A task whose processes do nothing; ``stale`` are its cells to run, ``data`` is whether its data is there."""

    def __init__(self, name, folder, stale=(), data=True):
        self.name, self._folder, self._stale, self._data = name, folder, stale, data

    def inputs(self):
        return {"split": "b"} if self._data else None

    record_inputs = lambda self: {"split": "b"}  # noqa: E731

    def stale_because(self, cell, inputs):
        return "not there yet" if cell in self._stale else None

    def _job(self, name):
        return Job(name, ("run", name), self._folder, self._folder / f"{name.replace('/', '-')}.log")

    def data_job(self):
        return self._job(f"{self.name}: data")

    def cell_job(self, cell, inputs):
        return self._job(cell.name)

    def report_job(self):
        return self._job(f"{self.name}: report")

    def prediction_of(self, cell):
        return self._folder / f"{cell.task}-{cell.model}.h5ad"


CELLS = [Cell(task, model, 0) for task in ("a", "b") for model in ("x", "y")]


@pytest.fixture
def ran():
    return []


@pytest.fixture
def run_grid(tmp_path, ran):
    """Return a function that runs the grid of CELLS: the names in ``failing`` fail."""

    def execute(job):
        ran.append(job.name)
        return Outcome(1 if job.name in failing else 0, 1.0)

    failing = set()

    def run(stale=(), data=True, fail=()):
        failing.update(fail)
        tasks = {name: PretendedTask(name, tmp_path, stale, data) for name in ("a", "b")}
        text = io.StringIO()
        with Progress(CELLS, Console(file=text, width=200)) as progress:
            grid = Benchmark(CELLS, tasks, lambda jobs: ((job, execute(job)) for job in jobs), progress, execute)
            grid()
        return grid, text.getvalue()

    return run


def test_only_stale_cells_run_and_every_task_is_reported(run_grid, ran):
    grid, text = run_grid(stale=[CELLS[1]])
    assert sorted(ran) == ["a/y/seed0", "a: report", "b: report"]
    assert ran.index("a/y/seed0") < ran.index("a: report")
    assert grid.failures == {} and set(grid.reported) == {"a", "b"}
    assert "a/x/seed0: up to date" in text and "[4/4] a/y/seed0: done" in text


def test_a_failed_cell_does_not_stop_the_others(run_grid, ran, tmp_path):
    (tmp_path / "a-y.h5ad").touch()
    grid, text = run_grid(stale=CELLS, fail=["a/x/seed0"])
    assert ran == ["a/x/seed0", "a/y/seed0", "a: report", "b/x/seed0", "b/y/seed0", "b: report"]
    assert grid.failures == {"a/x/seed0": "exit status 1 (a-x-seed0.log)"}
    assert "a/x/seed0: failed" in text


def test_an_earlier_prediction_of_a_failed_cell_is_told(run_grid, tmp_path):
    (tmp_path / "a-x.h5ad").touch()
    grid, _ = run_grid(stale=CELLS, fail=["a/x/seed0"])
    assert grid.failures["a/x/seed0"].endswith("; an earlier prediction of it is there")


def test_a_task_without_a_good_cell_is_not_reported(run_grid, ran):
    grid, _ = run_grid(stale=CELLS, fail=["a/x/seed0", "a/y/seed0"])
    assert "a: report" not in ran and grid.reported == ["b"]


def test_missing_data_is_made_first_and_its_failure_is_of_its_task_only(run_grid, ran):
    grid, text = run_grid(stale=CELLS, data=False, fail=["a: data"])
    assert ran == ["a: data", "b: data", "b/x/seed0", "b/y/seed0", "b: report"]
    assert list(grid.failures) == ["a: data"]
    assert "a/x/seed0: failed (there is no data)" in text


def test_commands_of_what_would_run(tmp_path):
    tasks = {"a": PretendedTask("a", tmp_path, [CELLS[0]]), "b": PretendedTask("b", tmp_path, data=False)}
    names = ["a/x/seed0", "'a: report'", "'b: data'", "b/x/seed0", "b/y/seed0", "'b: report'"]
    assert list(commands(CELLS, tasks)) == [f"kedro run {name}" for name in names]


def test_models_without_published_hyperparameters_are_left_out(project):
    published = Params(("hyperparameters:published",), {"hyperparameters": "published"})
    tasks = {name: TaskOfGrid(project, name, published) for name in ("norman19", "jiang24")}
    suite = Suite(tasks=tuple(tasks), models=("biolord", "gears", "cpa"), seeds=(0, 1))
    cells, left_out = plan(suite, tasks)
    assert [cell.name for cell in cells] == [
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
    with Progress(CELLS, console) as progress:
        progress.expect({CELLS[0]: tmp_path / "x.log", CELLS[1]: tmp_path / "y.log"})
        (tmp_path / "x.log").write_text("started")
        progress.end(CELLS[3], "failed", "3 s")
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
