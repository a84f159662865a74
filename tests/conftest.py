"""Fixtures: small simulated screens, the shared development data, and runs of the project on a copy of its files."""

import os
import sys
from pathlib import Path

# Before anything imports the project's settings: no MLflow store in tests, but for the test of tracking itself.
os.environ["PERTURBENCH_TRACKING"] = "off"

import anndata as ad
import pytest
from tests import postgres_server
from tests.file_server import serve
from tests.projects import caller, copy_project, runner

from perturbench.data.groups import Keys
from perturbench.data.sources.simulation import simulate

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("PERTURBENCH_SHARED", "../shared"))
SHARED = SHARED if SHARED.is_absolute() else ROOT / SHARED


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests that need what this machine lacks: development data, a database server, Linux, a CUDA device.

    In CI all but the last run, and fail where it lacks them; CI has no CUDA device.
    """
    found = {"shared": SHARED.is_dir(), "postgres": bool(postgres_server.binaries())}
    found["linux"] = sys.platform == "linux"
    missing = [] if os.environ.get("CI") else [name for name, there in found.items() if not there]
    missing += [] if _cuda_is_there() else ["cuda"]
    absent = [item for item in items if any(item.get_closest_marker(name) for name in missing)]
    if absent:
        config.hook.pytest_deselected(items=absent)
        items[:] = [item for item in items if item not in absent]


def _cuda_is_there() -> bool:
    """Return whether there is a CUDA device, without importing torch: the driver's device file is enough."""
    return Path("/dev/nvidiactl").exists() or Path("/proc/driver/nvidia").is_dir()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the development data sets; use with the marker ``shared``."""
    return SHARED


@pytest.fixture
def server():
    """A web server on this machine, see :mod:`file_server`."""
    with serve() as running:
        yield running


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


@pytest.fixture
def registry(monkeypatch):
    """Metrics that a test registers are gone after it."""
    from perturbench.analysis.metrics import registry as metrics

    metrics.available_metrics()  # brings the package's own, which stay
    for name in ("_COMPARISONS", "_AGGREGATIONS", "_METRICS"):
        monkeypatch.setattr(metrics, name, dict(getattr(metrics, name)))


@pytest.fixture(scope="session")
def project() -> Path:
    """The project, with Kedro told where it is."""
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(ROOT)
    return ROOT


@pytest.fixture(scope="session")
def stages(project):
    """Every pipeline by name; Kedro's own registry narrows to what the last session asked for."""
    from kedro.framework.project import pipelines

    from perturbench.pipeline_registry import register_pipelines

    pipelines.set_requested(None)
    return register_pipelines()


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
def project_copy(project, tmp_path) -> Path:
    """A copy of the project's configuration and demo data that ``kedro`` can be called in."""
    return copy_project(project, tmp_path)


@pytest.fixture
def run(project_copy):
    """Return a function that runs pipelines in the environment ``test``, in the copy of the project."""
    return runner(project_copy)


@pytest.fixture
def kedro(project_copy):
    """Return a function that calls the ``kedro`` command in the copy of the project."""
    return caller(project_copy)


@pytest.fixture
def scgpt_checkpoint(tmp_path):
    """Return a function that writes a tiny random checkpoint folder in scGPT's published layout."""
    import json

    import torch

    def write(genes, *, flash=True, folder="scGPT_tiny", width=16, hidden=24, n_layers=2, **arguments) -> Path:
        path = tmp_path / folder
        path.mkdir(exist_ok=True)
        # As published, special tokens come after the genes.
        vocabulary = {name: number for number, name in enumerate([*genes, "<pad>", "<cls>", "<eoc>"])}
        (path / "vocab.json").write_text(json.dumps(vocabulary))
        layout = {"embsize": width, "nheads": 4, "d_hid": hidden, "nlayers": n_layers, "n_layers_cls": 3}
        padding = {"dropout": 0.2, "pad_token": "<pad>", "pad_value": -2}
        (path / "args.json").write_text(json.dumps({**layout, **padding, **arguments}))
        qkv = "Wqkv." if flash else "in_proj_"
        shapes = {
            "encoder.embedding.weight": (len(vocabulary), width),
            "flag_encoder.weight": (2, width),
            "value_encoder.linear1.weight": (width, 1),
            "value_encoder.linear1.bias": (width,),
            "value_encoder.linear2.weight": (width, width),
            "value_encoder.linear2.bias": (width,),
            "decoder.fc.0.weight": (width, width),
        }
        norms = ["encoder.enc_norm", "value_encoder.norm"]
        for number in range(n_layers):
            layer = f"transformer_encoder.layers.{number}"
            norms += [f"{layer}.norm1", f"{layer}.norm2"]
            shapes |= {
                f"{layer}.self_attn.{qkv}weight": (3 * width, width),
                f"{layer}.self_attn.{qkv}bias": (3 * width,),
                f"{layer}.self_attn.out_proj.weight": (width, width),
                f"{layer}.self_attn.out_proj.bias": (width,),
                f"{layer}.linear1.weight": (hidden, width),
                f"{layer}.linear1.bias": (hidden,),
                f"{layer}.linear2.weight": (width, hidden),
                f"{layer}.linear2.bias": (width,),
            }
        for norm in norms:
            shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
        draw = torch.Generator().manual_seed(0)
        weights = {name: 0.5 * torch.randn(shape, generator=draw) for name, shape in shapes.items()}
        torch.save(weights, path / "best_model.pt")
        return path

    return write
