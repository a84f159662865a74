"""Every command of a ``bash`` block of the README and the docs is run, page by page, in a small copy of the project.

Small are trainings (one epoch), published hyperparameters (the defaults in their place), searches, and the paper's
seeds (one of five). Downloads come from a server on this machine, a GPU is the CPU, and the cells of a grid run in this
process. Servers are started and asked for their page.
"""

import contextlib
import gzip
import hashlib
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from threading import Lock

import pandas as pd
import pytest
import yaml
from tests import postgres_server
from tests.test_docs import PAGES, ROOT

from perturbench.cli import benchmark
from perturbench.cli import run as run_command
from perturbench.cli.main import main as perturbench
from perturbench.data.groups import Keys
from perturbench.data.sources.simulation import simulate
from perturbench.grid import command as grid_command
from perturbench.grid import processes
from perturbench.grid.warm import WarmProcess
from perturbench.preprocessing.preparation import prepare

SMALL = {
    "trainer": {"max_epochs": 1, "min_epochs": 1, "batch_size": 512, "accelerator": "cpu", "precision": "32-true"},
    "search_space": {"n_layers": None, "encoder_width": None, "latent_dim": None},
    "hpo": {"n_trials": 3},
    "data": {"source": {"simulation": {"n_cells": 600, "n_genes": 30}}},
}
#: What a page takes for granted.
BEFORE = {"report": ["kedro run"]}
#: They set up the environment that this test runs in; what else `make demo` does has a test of its own.
SET_UP = ("make demo", "make test", "source .venv/bin/activate", "git clone <this repository> && cd perturbench")
DATABASE = "postgresql://me@dbhost:5432/hpo"
GENES = "CEBPE RUNX1T1 KLF1 BAK1 SET FOXA1 CEBPA MAPK1 CDKN1A ETS2 TP73 KIF2C".split()


def commands(page):
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip()]


def pages():
    """Pages that have commands."""
    for page in PAGES:
        marks = [pytest.mark.postgres] if DATABASE in "".join(commands(page)) else []
        if commands(page):
            yield pytest.param(page, id=page.stem, marks=marks)


@pytest.fixture
def sandbox(project_copy, scgpt_checkpoint, server, monkeypatch):
    """A copy of the project in which everything is small and every file that a page names is there."""
    counts = named_genes()
    counts.write_h5ad(project_copy / "my_counts.h5ad")
    scgpt_checkpoint(counts.var_names, folder="data/01_raw/scGPT_human")
    cells = prepare(simulate(n_cells=600, n_genes=30, n_states=2, n_singles=6, n_doubles=3), Keys())
    cells.write_h5ad(project_copy / "observed.h5ad")
    cells[cells.obs["condition"] != "control"].write_h5ad(project_copy / "mine.h5ad")
    (project_copy / "mine.csv").write_text("condition,cell_type\nPOU5F1,day5\nSOX2+NANOG,day2\n")
    for env in ("local", "gpu"):
        (project_copy / f"conf/{env}/parameters.yml").write_text(yaml.safe_dump(SMALL))
    monkeypatch.chdir(project_copy)
    without_size(Path("conf/base"))
    from_server(Path("conf/base/parameters/tasks/norman19.yml"), server)
    return project_copy


def named_genes():
    """Counts of one state with singles and doubles, named as genes that the GO annotation knows."""
    counts = simulate(n_cells=1500, n_genes=60, n_states=1, n_singles=6, n_doubles=8)
    singles = [name for name in counts.obs["condition"].cat.categories if "+" not in name and name != "control"]
    names = dict(zip(singles, GENES, strict=False))
    renamed = (
        counts.obs["condition"].astype(str).map(lambda c: "+".join(names.get(part, part) for part in c.split("+")))
    )
    counts.obs["condition"] = pd.Categorical(renamed)
    counts.var_names = [*GENES, *counts.var_names[len(GENES) :]]
    return counts


def without_size(conf):
    """Let published hyperparameters be the defaults, and the paper's seeds one."""
    for path in (conf / "parameters/published").glob("*.yml"):
        published = yaml.safe_load(path.read_text())["published"]
        without_values = {model: {task: {} for task in tasks} for model, tasks in published.items()}
        path.write_text(yaml.safe_dump({"published": without_values}))
    suites = yaml.safe_load((conf / "suites.yml").read_text())
    suites["paper"]["seeds"] = [0]
    (conf / "suites.yml").write_text(yaml.safe_dump(suites))


def from_server(task, server):
    """Let what the task downloads come from a server on this machine."""
    published = yaml.safe_load(task.read_text())
    forms = published["tasks"]["norman19"]["data"]["source"]["published"]
    cells = Path("my_counts.h5ad").read_bytes()
    for form in forms.values():
        for name, file in form["files"].items():
            content = gzip.compress(cells) if name.endswith(".gz") else cells
            server.files[name] = content
            file |= {"url": f"{server.url}/{name}", "bytes": len(content)}
            file["checksum"] = f"md5:{hashlib.md5(content).hexdigest()}"
    task.write_text(yaml.safe_dump(published))


@pytest.fixture(autouse=True)
def cells_run_here(monkeypatch):
    """Run the cells of a grid one after another in this process: a process of its own takes seconds to import."""
    one = Lock()

    def execute(job, stop=None, warm=None):
        start = time.monotonic()
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with one, job.log.open("w") as log, contextlib.redirect_stdout(log):
            run_command.main(list(job.arguments[1:]), standalone_mode=False)
        return processes.Outcome(0, time.monotonic() - start)

    monkeypatch.setattr(processes, "execute", execute)
    monkeypatch.setattr(grid_command, "execute", execute)
    monkeypatch.setattr(WarmProcess, "start", lambda self: None)


def call(line):
    """Run a command as the shell would."""
    words = shlex.split(line)
    match words:
        case ["kedro", "viz", "run"] | ["mlflow", "ui", *_]:
            answers(words)
        case ["kedro", "run", *options]:
            run_command.main(options, standalone_mode=False)
        case ["kedro", "benchmark", *options]:
            benchmark.main(options, standalone_mode=False)
        case ["perturbench", *options]:
            perturbench.main(options, standalone_mode=False)
        case _:
            raise AssertionError(f"no one runs: {line}")


def answers(words):
    """Start a server on a free port, and wait for its page."""
    port = free_port()
    options = [f"--port={port}", *(["--no-browser"] if words[0] == "kedro" else [])]
    process = subprocess.Popen([sys.executable, "-m", *words, *options], stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(600):
            assert process.poll() is None, process.stderr.read()
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}") as page:
                assert "<html" in page.read().decode()
                return
            time.sleep(0.1)
        raise AssertionError(f"{shlex.join(words)} does not answer")
    finally:
        process.terminate()
        process.wait(20)


def free_port():
    """A port that the system does not hand out by itself; kedro-viz takes none of the high ones that it does."""
    for port in range(20_000 + os.getpid() % 10_000, 32_000):
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


@pytest.mark.parametrize("page", pages())
def test_commands_run(page, sandbox):
    lines = [*BEFORE.get(page.stem, []), *(line for line in commands(page) if line not in SET_UP)]
    with contextlib.ExitStack() as stack:
        for line in lines:
            if DATABASE in line:
                line = line.replace(DATABASE, stack.enter_context(postgres_server.serve()))
            call(line)
    if page.stem in ("README", "quick_start"):
        assert (sandbox / "data/08_reporting/demo/report.html").is_file()
        assert list((sandbox / "data/07_model_output/counterfactuals").rglob("*_pseudobulk.h5ad"))


def test_make_demo_is_a_benchmark(sandbox):
    printed = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (line,) = re.findall(r"^\S*bin/(kedro .*)$", printed, re.MULTILINE)
    call(line)
    board = pd.read_csv(sandbox / "data/08_reporting/demo/leaderboard.csv")
    assert len(board) == 5
