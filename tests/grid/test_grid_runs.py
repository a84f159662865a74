"""Real grids of small models: what is killed runs again, what changed runs again, and nothing else does."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import psutil
import pytest
from click.testing import CliRunner

from perturbench.cli import benchmark
from perturbench.grid.processes import _PARENT
from perturbench.grid.runs import read_stamp

SCREEN = {"n_cells": 600, "n_genes": 30, "n_states": 2, "n_singles": 6, "n_doubles": 3}
SIMULATION = ",".join(f"data.source.simulation.{name}:{value}" for name, value in SCREEN.items())
PARAMS = f"{SIMULATION},splitter.max_heldout_fraction_per_covariate:0.5"


@pytest.fixture
def grid(project_copy):
    return Grid(project_copy)


class Grid:
    """A grid in a copy of the project."""

    def __init__(self, root):
        self.root = root
        self.reports = root / "data/08_reporting/simulated"

    def arguments(self, *options, params=PARAMS):
        return ["--tasks=simulated", "--models=control,ridge", f"--params={params}", *options]

    def start(self, *options):
        command = [sys.executable, "-m", "kedro", "benchmark", *self.arguments(*options)]
        # A session of its own, so that it can be killed with all its processes.
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
        return subprocess.Popen(command, cwd=self.root, **pipes)

    def run(self, **others):
        with contextlib.chdir(self.root):
            result = CliRunner().invoke(benchmark, self.arguments(**others))
        assert result.exit_code == 0, result.output
        return result.output

    def wait_for(self, process, name):
        """Wait until a run has been started."""
        for _ in range(2400):
            if (self.reports / f"logs/{name}.log").exists():
                return
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.05)
        raise AssertionError(f"{name} was never started")

    def evaluated(self):
        log = pd.read_csv(self.reports / "evaluation_log.csv").set_index("prediction")
        return (log["status"] + ": " + log["reason"]).to_dict()


def states(text):
    """Return the state that each run of a grid ended in."""
    ended = [line.split("] simulated/")[1] for line in text.splitlines() if "] simulated/" in line]
    return {line.partition("/")[0]: line.partition(": ")[2].partition(" (")[0] for line in ended}


def test_a_killed_grid_goes_on_and_what_changed_runs_again(grid):
    process = grid.start()
    grid.wait_for(process, "ridge-seed0")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (grid.reports / "leaderboard.csv").exists()
    text = grid.run()
    assert "making the data" not in text
    assert states(text) == {"control": "up to date", "ridge": "done"}
    board = pd.read_csv(grid.reports / "leaderboard.csv")
    assert set(board["model"]) == {"control", "ridge"}

    # Another default of one model.
    (grid.root / "conf/local/parameters.yml").write_text("models: {ridge: {defaults: {penalty: 1.0}}}\n")
    text = grid.run()
    assert "simulated/ridge/seed0: stale: hyperparameters: penalty (1.0, was 0.1)" in text
    assert states(text) == {"control": "up to date", "ridge": "done"}
    assert grid.evaluated() == {
        "control/seed0": "up to date: nothing changed",
        "ridge/seed0": "evaluated: changed: prediction",
    }

    # Other settings of the prediction: the model is the one that is there.
    checkpoint = grid.root / "data/06_models/simulated/ridge/seed0.ckpt"
    trained = checkpoint.stat().st_mtime_ns
    text = grid.run(params=f"{PARAMS},prediction.max_control_cells:20")
    assert "simulated/ridge/seed0: stale: prediction settings: max_control_cells (20, was 1000)" in text
    assert set(states(text).values()) == {"done"}
    assert checkpoint.stat().st_mtime_ns == trained
    predicted = grid.root / "data/07_model_output/simulated/ridge/seed0.h5ad"
    assert "prediction.max_control_cells:20" in read_stamp(predicted).command
    assert "up to date" in grid.run(params=f"{PARAMS},prediction.max_control_cells:20")

    # A checkpoint that is newer than the prediction may be another one.
    os.utime(checkpoint)
    grid.run(params=f"{PARAMS},prediction.max_control_cells:30")
    assert checkpoint.stat().st_mtime_ns != trained
    assert checkpoint.stat().st_mtime_ns < predicted.stat().st_mtime_ns

    text = grid.run(params=f"{PARAMS},splitter.seed:7")
    assert "simulated: making the data (stale: splitter: seed (7, was 42))" in text
    for model in ("control", "ridge"):
        assert f"simulated/{model}/seed0: stale: split" in text
    assert set(states(text).values()) == {"done"}
    assert set(grid.evaluated().values()) == {"evaluated: changed: prediction; split"}


def test_runs_end_with_a_grid_that_is_killed_alone(grid):
    process = grid.start()
    grid.wait_for(process, "control-seed0")
    runs = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert runs
    _, alive = psutil.wait_procs(runs, timeout=30)
    assert not alive, "the run outlives the grid"


def test_a_process_that_does_not_heed_the_first_signal_is_killed(tmp_path):
    """As a prediction of Lightning's does not."""
    started = tmp_path / "started"
    run = (
        "import os, signal, time; from perturbench.grid import processes\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); processes._PATIENCE = 0.5; processes.end_with_parent()\n"
        f"open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    )
    grid = (
        "import os, subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {run!r}], env=os.environ | {{{_PARENT!r}: str(os.getpid())}})\n"
        "time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", grid])
    for _ in range(300):
        if started.exists() and started.read_text():
            break
        time.sleep(0.1)
    orphan = psutil.Process(int(started.read_text()))
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs([orphan], timeout=20)
    assert not alive


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_grid_leaves_no_process_behind(grid, number):
    process = grid.start("--jobs=2")
    grid.wait_for(process, "control-seed0")
    os.kill(process.pid, number)
    text, _ = process.communicate()
    assert process.returncode == 1
    assert "stopped; run the same command again to continue" in text
    assert "Traceback" not in text
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert not list((grid.root / "data/07_model_output").rglob("*.h5ad"))
