"""Fixtures: small simulated screens, the shared development data, and runs of the project on a copy of its files."""

import os
import shutil
from pathlib import Path

# Before anything imports the project's settings: no MLflow store in tests, but for the test of tracking itself.
os.environ["PERTURBENCH_TRACKING"] = "off"

import anndata as ad
import pytest

from perturbench.data.groups import Keys
from perturbench.data.simulation import simulate

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("PERTURBENCH_SHARED", "../shared"))
SHARED = SHARED if SHARED.is_absolute() else ROOT / SHARED


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests of the shared data where it is not; in CI they run, and fail if it is missing."""
    if SHARED.is_dir() or os.environ.get("CI"):
        return
    absent = [item for item in items if item.get_closest_marker("shared")]
    if absent:
        config.hook.pytest_deselected(items=absent)
        items[:] = [item for item in items if item not in absent]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the development data sets; use with the marker ``shared``."""
    return SHARED


@pytest.fixture(scope="session")
def keys() -> Keys:
    return Keys()


@pytest.fixture(scope="session")
def _screen() -> ad.AnnData:
    return simulate(n_cells=1200, n_genes=60, n_states=3, n_singles=8, n_doubles=4, seed=1)


@pytest.fixture
def screen(_screen: ad.AnnData) -> ad.AnnData:
    """Raw counts of a small simulated screen: 3 states, 8 singles, 4 doubles."""
    return _screen.copy()


@pytest.fixture(scope="session")
def project() -> Path:
    """The project, with Kedro told where it is."""
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(ROOT)
    return ROOT


@pytest.fixture
def load_config(project):
    """Return a function that makes the project's configuration loader."""
    from kedro.framework.project import settings

    def load(env=None, conf=project / "conf", **runtime_params):
        return settings.CONFIG_LOADER_CLASS(
            conf_source=str(conf), env=env, runtime_params=runtime_params, **settings.CONFIG_LOADER_ARGS
        )

    return load


@pytest.fixture
def run(project, tmp_path):
    """Return a function that runs pipelines in the environment ``test``, on a copy of conf/, with data in tmp_path."""
    from kedro.framework.session import KedroSession

    shutil.copytree(project / "conf", tmp_path / "conf")
    shutil.copytree(project / "data/01_raw/ishikawa23", tmp_path / "data/01_raw/ishikawa23")

    def _run(*pipelines: str, env: str = "test", **params):
        with KedroSession.create(project_path=tmp_path, env=env, runtime_params=params) as session:
            return session.run(pipeline_names=list(pipelines) or None)

    _run.root = tmp_path
    return _run
