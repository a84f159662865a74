"""What the base class offers to models: named loss terms, several optimizers, errors that name what is wrong."""

import lightning as L
import numpy as np
import pytest
import torch

from perturbench.data import PerturbationDataModule
from perturbench.data.splits import SplitRules, split_cells
from perturbench.errors import PerturbenchError
from perturbench.models import Control, PerturbationModel
from perturbench.preprocessing import prepare
from perturbench.training import fit
from perturbench.training.callbacks import LOSSES


class TwoParts(PerturbationModel):
    """A scale and a shift with an optimizer each, and two named terms."""

    def __init__(self, context, lr: float = 0.05):
        super().__init__(context, lr=lr)
        self.automatic_optimization = False
        self.scale = torch.nn.Parameter(torch.tensor(0.5))
        self.shift = torch.nn.Parameter(torch.zeros(self.n_genes))

    def predict(self, batch):
        return batch.matched_controls() * self.scale + self.shift

    def loss(self, batch):
        error = (self.predict(batch) - batch.observed()).square().mean()
        size = self.shift.square().mean()
        return {"loss": error + 0.1 * size, "error": error, "size": size}

    def configure_optimizers(self):
        return self.adam([self.scale]), self.adam([self.shift])

    def training_step(self, batch, batch_idx):
        of_scale, of_shift = self.optimizers()
        self.minimise(of_scale, self.loss, batch)
        self.minimise(of_shift, self.loss, batch, "train_shift")


@pytest.fixture
def module(screen, keys):
    from perturbench.data.splits import SplitRules, split_cells

    split = split_cells(screen.obs, keys, "transfer", SplitRules(max_heldout_fraction_per_covariate=0.5), seed=0)
    return PerturbationDataModule(prepare(screen, keys, n_top_genes=20, n_de_genes=0), split, keys, batch_size=128)


def test_every_term_of_a_loss_is_recorded(module):
    checkpoint = fit(TwoParts(module.context), module, max_epochs=3, min_epochs=1, accelerator="cpu")
    table = checkpoint[LOSSES]
    terms = {f"{part}_{name}" for part in ("train", "train_shift", "val") for name in ("loss", "error", "size")}
    assert set(table) == {"epoch", *terms}
    for name in terms:
        assert len(table[name]) == 3
    for part in ("train", "train_shift", "val"):
        for loss, error, size in zip(*(table[f"{part}_{name}"] for name in ("loss", "error", "size")), strict=True):
            assert loss == pytest.approx(error + 0.1 * size, rel=1e-5)
    assert checkpoint["perturbench_model"]["val_loss"] == min(table["val_loss"])


def test_losses_are_means_over_cells(module):
    model = TwoParts(module.context)
    fit(model, module, max_epochs=1, min_epochs=1, accelerator="cpu")
    with torch.no_grad():
        batches = [model.loss(batch)["loss"] * len(batch.perturbations) for batch in module.val_dataloader()]
    assert model.epoch_losses["val_loss"] == pytest.approx(sum(map(float, batches)) / len(module.rows["val"]), rel=1e-5)


def test_one_optimizer_leaves_the_weights_of_the_other_alone(module):
    class OnlyShift(TwoParts):
        def training_step(self, batch, batch_idx):
            self.minimise(self.optimizers()[1], self.loss, batch)

    model = OnlyShift(module.context)
    fit(model, module, max_epochs=1, min_epochs=1, accelerator="cpu")
    assert model.scale.item() == 0.5
    assert model.shift.abs().sum() > 0


def test_terms_without_a_loss_are_refused(module):
    class Nameless(TwoParts):
        def loss(self, batch):
            return {"error": super().loss(batch)["error"]}

    with pytest.raises(PerturbenchError, match=r"loss\(\) returned the terms error; one of them must be called 'loss'"):
        fit(Nameless(module.context), module, max_epochs=1, accelerator="cpu")


def test_trainer_test_takes_metrics_of_cells(screen, keys):
    cells = prepare(screen, keys)
    module = PerturbationDataModule(cells, split_cells(cells.obs, keys, "transfer", SplitRules(), 0), keys)
    model = Control(module.context)
    fit(model, module, accelerator="cpu")
    model.test_metrics = ["rmse_average", "energy_pca"]
    L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False).test(model, module, verbose=False)
    energy = model.test_scores.query("metric == 'energy_pca'")["value"]
    assert np.isfinite(energy).all() and len(energy) == len(module.pairs("test"))
