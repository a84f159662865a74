"""Every notebook runs on the results of a demo run."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture
def demo(run):
    for model in ("control", "latent_additive"):
        run(task="demo", model=model)
    return run.root


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(demo, path):
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "committed without outputs"
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(demo)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("latent_additive" in str(output) for output in outputs)
    assert any("application/vnd.plotly.v1+json" in output.get("data", {}) for output in outputs)
