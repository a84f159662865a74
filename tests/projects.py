"""Copies of the project that tests run pipelines and commands in."""

import shutil
import subprocess
import sys
from pathlib import Path

#: Parameters of a screen that every pipeline runs through in about a second.
TINY = {
    "task": "simulated",
    "data": {"source": {"simulation": {"n_cells": 600, "n_genes": 30, "n_states": 2, "n_singles": 6, "n_doubles": 3}}},
    "splitter": {"max_heldout_fraction_per_covariate": 0.5},
}


def copy_project(project: Path, folder: Path) -> Path:
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(project / name, folder / name)
    (folder / "src").mkdir()
    shutil.copytree(project / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    (folder / "conf/local").mkdir()
    for name in ("ishikawa23", "gene2go"):
        shutil.copytree(project / "data/01_raw" / name, folder / "data/01_raw" / name)
    return folder


def runner(root: Path):
    from kedro.framework.session import KedroSession

    def run(*pipelines: str, env: str = "test", **params):
        with KedroSession.create(project_path=root, env=env, runtime_params=params) as session:
            return session.run(pipeline_names=list(pipelines) or None)

    def catalog(env: str = "test", **params):
        with KedroSession.create(project_path=root, env=env, runtime_params=params) as session:
            return session.load_context().catalog

    run.root, run.catalog = root, catalog
    return run


def caller(root: Path):
    def call(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kedro", *arguments]
        result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if check:
            assert result.returncode == 0, result.stdout + result.stderr
        return result

    call.root = root
    return call
