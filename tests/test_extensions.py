"""The README's model and metric and a toy task work as they are; a new splitter parameter is one field."""

import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from kedro.validation.exceptions import ParameterValidationError
from tests.projects import TINY

from perturbench.data import PerturbationDataModule
from perturbench.data.splits import SplitRules, split_cells
from perturbench.preprocessing import prepare
from perturbench.training import fit

ROOT = Path(__file__).parents[1]
README, MODEL_PAGE = ((ROOT / page).read_text() for page in ("README.md", "docs/write_a_model.md"))
TASK = """
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
"""


def blocks(language, page=README):
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


@pytest.fixture
def user_modules(run, monkeypatch, registry):
    """Return the project's folder, in which a user's modules are importable; they are forgotten after the test."""
    monkeypatch.syspath_prepend(str(run.root))
    yield run.root
    for name in ("my_models", "my_metrics"):
        sys.modules.pop(name, None)


def test_model_and_metric_of_the_readme_on_a_toy_task(run, user_modules):
    """As the README says: two modules and two YAML files; nothing else is needed."""
    model, metric = blocks("python")
    (user_modules / "my_models.py").write_text(model)
    (user_modules / "my_metrics.py").write_text(metric)
    registered, evaluation = blocks("yaml")
    parameters = user_modules / "conf/base/parameters"
    (parameters / "models/shift.yml").write_text(registered)
    (parameters / "tasks/toy.yml").write_text(TASK)
    run(task="toy", model="shift", **yaml.safe_load(evaluation))
    board = pd.read_csv(user_modules / "data/08_reporting/toy/leaderboard.csv")
    assert board["model"].tolist() == ["shift"]
    assert board["max_error_average"].gt(board["rmse_average"]).all()
    assert board["max_error_rank_average"].between(0, 1).all()


TWO_OPTIMIZERS = """
import torch
from perturbench.models import PerturbationModel

class ScaleAndShift(PerturbationModel):
    def __init__(self, context, lr: float = 0.01):
        super().__init__(context, lr=lr)
        self.automatic_optimization = False
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.shift = torch.nn.Parameter(torch.zeros(self.n_genes))

    def predict(self, batch):
        return batch.matched_controls() * self.scale + self.shift

    def loss(self, batch):
        error = (self.predict(batch) - batch.observed()).square().mean()
        return {"loss": error + self.size(batch)["loss"], "error": error}

    def size(self, batch):
        return {"loss": 0.1 * self.shift.square().mean()}

    def configure_optimizers(self):
        return self.adam([self.scale]), self.adam([self.shift])

    def training_step(self, batch, batch_idx):
        scale, shift = self.optimizers()
        self.minimise(scale, self.loss, batch)
        self.minimise(shift, self.loss, batch, "train_shift")
"""


def test_model_with_two_losses_and_two_optimizers(run, user_modules):
    """One module and one YAML file; its terms are in the table of losses that the report draws."""
    (user_modules / "my_models.py").write_text(TWO_OPTIMIZERS)
    registered = "models: {two: {target: my_models.ScaleAndShift, defaults: {lr: 0.01}}}\n"
    (user_modules / "conf/base/parameters/models/two.yml").write_text(registered)
    run(**TINY, model="two")
    table = pd.read_csv(next((user_modules / "data").glob("**/two/seed0.losses.csv")))
    assert {"train_loss", "val_loss", "train_error", "val_error", "train_shift_loss"} <= set(table.columns)
    assert table.notna().all(axis=None)
    run("template", **TINY, model="two")
    del sys.modules["my_models"]
    run("prediction", **TINY, model="two")
    assert list((user_modules / "data").glob("**/counterfactuals/**/two/seed0/*.h5ad"))


@pytest.mark.parametrize("block", blocks("python"))
def test_what_the_readme_adds_takes_eight_lines(block):
    assert len([line for line in block.splitlines() if line]) <= 8


def test_class_and_loss_of_the_page_about_models(screen, keys, user_modules):
    """Every term of the loss is recorded, as the page says."""
    model, loss = blocks("python", MODEL_PAGE)
    (user_modules / "my_models.py").write_text(f"{model}\n\n{loss}\n\nShift.loss = loss\n")
    from my_models import Shift

    cells = prepare(screen, keys)
    datamodule = PerturbationDataModule(cells, split_cells(cells.obs, keys, "transfer", SplitRules(), seed=0), keys)
    checkpoint = fit(Shift(datamodule.context), datamodule, max_epochs=2, accelerator="cpu")
    terms = {f"{part}_{name}" for part in ("train", "val") for name in ("loss", "error", "penalty")}
    assert terms <= set(checkpoint["losses"])


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
