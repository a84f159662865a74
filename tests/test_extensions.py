"""What a user adds: a model, a task and a metric without touching the source, a splitter parameter as one field."""

import sys
import textwrap

import pandas as pd
import pytest
from kedro.validation.exceptions import ParameterValidationError
from tests.projects import TINY


@pytest.fixture
def toy_folder(tmp_path, monkeypatch, registry):
    folder = tmp_path / "toys"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in ("toy_model", "toy_metric"):
        sys.modules.pop(name, None)


def test_toy_model_task_and_metric(run, toy_folder):
    (toy_folder / "toy_model.py").write_text(
        textwrap.dedent(
            """
            import torch
            from perturbench.models import PerturbationModel

            class Scaled(PerturbationModel):
                def __init__(self, context, start: float = 1.0, lr: float = 1e-3):
                    super().__init__(context, lr=lr)
                    self.scale = torch.nn.Parameter(torch.tensor(start))

                def predict(self, batch):
                    return batch.matched_controls() * self.scale
            """
        )
    )
    (toy_folder / "toy_metric.py").write_text(
        textwrap.dedent(
            """
            import numpy as np
            from perturbench.analysis import register_comparison

            @register_comparison("max_error", better="lower")
            def max_error(observed, predicted):
                return np.abs(observed - predicted).max(axis=-1)
            """
        )
    )
    parameters = run.root / "conf/base/parameters"
    (parameters / "models/scaled.yml").write_text(
        "models: {scaled: {target: toy_model.Scaled, defaults: {start: 0.9, lr: 0.001}}}\n"
    )
    (parameters / "tasks/toy.yml").write_text(
        textwrap.dedent(
            """
            tasks:
              toy:
                title: A toy
                data:
                  dataset: toy
                  source:
                    kind: simulation
                    path: ${root:data/01_raw/toy.h5ad}
                    simulation: {n_cells: 600, n_genes: 30, n_states: 2, n_singles: 6, n_doubles: 0}
                splitter: {max_heldout_fraction_per_covariate: 0.5}
                evaluation:
                  plugins: [toy_metric]
                  metrics: [max_error_average, max_error_rank_average, rmse_average]
            """
        )
    )
    run(task="toy", model="scaled")
    board = pd.read_csv(run.root / "data/08_reporting/toy/leaderboard.csv")
    assert board["model"].tolist() == ["scaled"]
    assert board["max_error_average"].gt(0).all()
    assert board["max_error_rank_average"].between(0, 1).all()


def test_toy_splitter_parameter(run, monkeypatch):
    """A field of the rules is a parameter at once: read from YAML, checked, and handed to the function that splits."""
    from pydantic import Field

    from perturbench.config.sections import SplitterConfig
    from perturbench.data import splits
    from perturbench.pipelines.splitting import nodes

    class Toy(SplitterConfig):
        toy: int = Field(1, ge=1)

    arrived = []

    def split_cells(obs, keys, method, rules, seed):
        arrived.append(rules.toy)
        return split(obs, keys, method, rules, seed)

    split = splits.split_cells
    monkeypatch.setattr(splits, "split_cells", split_cells)
    monkeypatch.setattr(nodes, "SplitterConfig", Toy)
    (run.root / "conf/local/parameters.yml").write_text("splitter: {toy: 3}\n")
    run("ingestion", "splitting", **TINY)
    with pytest.raises(ParameterValidationError, match="toy is 0: input should be greater than or equal to 1"):
        run("splitting", **{**TINY, "splitter": {"toy": 0}})
    assert arrived == [3]
