"""What the base class offers, and what every model does: losses, optimizers, prediction, testing, refused data."""

import anndata as ad
import lightning as L
import numpy as np
import pytest
import torch
from tests.models.small_models import (
    COVARIATES,
    all_models,
    build,
    make_module,
    new,
    observed_cells,
    pairs_of,
    train,
    trained,
)

from perturbench.analysis import evaluate
from perturbench.errors import PerturbenchError
from perturbench.models import CPA, LatentAdditive, PerturbationModel
from perturbench.training.callbacks import LOSSES
from perturbench.training.checkpoints import build_model, load_model
from perturbench.training.fitting import fit
from perturbench.training.prediction import predict


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
        scale_optimizer, shift_optimizer = self.optimizers()
        self.minimise(scale_optimizer, self.loss, batch)
        self.minimise(shift_optimizer, self.loss, batch, "train_shift")


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


@all_models
def test_prediction_for_a_cell_does_not_depend_on_its_batch(module, name):
    model, dataset = trained(name), module.counterfactuals()
    with torch.no_grad():
        together = model.predict(dataset[:30])
        alone = torch.cat([model.predict(dataset[[i]]) for i in range(30)])
    assert alone.numpy() == pytest.approx(together.numpy(), rel=1e-4, abs=1e-5)


@all_models
def test_example_is_predicted_as_in_its_batch(module, name):
    model = trained(name)
    for dataset in (module.counterfactuals(), module.observed("val")):
        with torch.no_grad():
            batch = model(dataset[:5])
            one = model(dataset[3])
        assert one.shape == (module.adata.n_vars,)
        if dataset[3].gene_expression is None:  # an observed cell alone draws another control
            assert one.numpy() == pytest.approx(batch[3].numpy(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("n_covariates", COVARIATES)
@all_models
def test_any_number_of_covariates(name, n_covariates):
    module = make_module(COVARIATES[n_covariates])
    if name == "decoder_cov" and n_covariates == 0:
        with pytest.raises(PerturbenchError, match=r"decoder_only would have no input: .* 0 covariate levels"):
            build(name, module.context)
        return
    predicted = predict(load_model(train(name, module, max_epochs=1)), module, accelerator="cpu")
    assert set(pairs_of(predicted, module.keys)) == set(module.pairs("test"))
    assert predicted.shape == (10 * len(module.pairs("test")), module.adata.n_vars)
    assert np.isfinite(predicted.X).all()


@pytest.mark.parametrize("controls", ["all", "part"])
@all_models
def test_trainer_test_is_evaluate_of_predict(name, controls):
    module = make_module(max_control_cells=7, prediction_controls=controls)
    model = trained(name)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    logged = trainer.test(model, module, verbose=False)[0]
    predicted = predict(model, module, accelerator="cpu")
    summary = evaluate({"m": predicted}, observed_cells(module, "test"), negative="clip").summary.loc["m"]
    assert {f"test_{key}" for key in summary.index} == set(logged)
    for key, value in summary.items():
        assert logged[f"test_{key}"] == pytest.approx(value, abs=1e-6, nan_ok=True)


def test_trainer_test_takes_metrics_of_cells():
    module = make_module(max_control_cells=None)  # these metrics are undefined for few cells
    model = trained("control")
    model.test_metrics = ["rmse_average", "energy_pca"]
    L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False).test(model, module, verbose=False)
    energy = model.test_scores.query("metric == 'energy_pca'")["value"]
    assert np.isfinite(energy).all() and len(energy) == len(module.pairs("test"))


def test_predicting_observed_batches_names_them(module):
    batch = module.observed("val")[:40]
    with torch.no_grad():
        cells = trained("linear").predict_step(batch, 0)
    expected = module.adata[batch.ids].obs
    assert list(cells.obs["condition"]) == list(expected["condition"])
    assert list(cells.obs["cell_type"]) == list(expected["cell_type"])


class Halfway(PerturbationModel):
    """A model as a user would write it: one class with a predict method."""

    def __init__(self, context, share: float = 0.5, lr: float = 0.1):
        super().__init__(context, lr=lr)
        self.share = share
        self.level = torch.nn.Parameter(torch.zeros(self.n_genes))

    def predict(self, batch):
        return self.share * batch.controls + (1 - self.share) * torch.relu(self.level)


def test_a_model_is_one_class(module):
    model = build_model(f"{Halfway.__module__}.Halfway", module.context, {"share": 0.25})
    loaded = load_model(fit(model, module, max_epochs=1, accelerator="cpu"))
    assert (loaded.share, loaded.lr, loaded.wd) == (0.25, 0.1, 1e-8)
    assert isinstance(predict(loaded, module, accelerator="cpu"), ad.AnnData)


def test_observed_batch_is_needed_to_train(module):
    model = build("linear", module.context)
    with pytest.raises(PerturbenchError, match="no observed expression"):
        model.loss(module.counterfactuals()[:3])
    with pytest.raises(PerturbenchError, match="no matched controls"):
        model.predict(module.observed("val")[:3]._replace(controls=None))


@pytest.mark.parametrize("cls", [LatentAdditive, CPA])
def test_embeddings_replace_the_expression_of_the_cell(embedded, cls):
    model = new(cls, embedded, use_embeddings=True)
    assert load_model(fit(model, embedded, max_epochs=1, accelerator="cpu")).training_record["n_embedding"] == 5
    model.eval()
    batch = embedded.counterfactuals()[:10]
    other_cells = batch._replace(controls=batch.controls + 1)
    other_embeddings = batch._replace(control_embeddings=batch.control_embeddings + 1)
    with torch.no_grad():
        before = model.predict(batch)
        assert before.shape == (10, 30)
        assert torch.equal(model.predict(other_cells), before)
        assert not torch.equal(model.predict(other_embeddings), before)


@pytest.mark.parametrize("cls", [LatentAdditive, CPA])
def test_embeddings_must_be_loaded(module, cls):
    with pytest.raises(PerturbenchError, match=r"with use_embeddings needs cell embeddings; set data\.embedding_key"):
        cls(module.context, use_embeddings=True)


class TestMismatch:
    def other_genes(self, cells):
        return cells[:, ::-1].copy()

    def other_perturbations(self, cells):
        other = cells.copy()
        other.obs["condition"] = [name.replace("P1", "O1") for name in cells.obs["condition"]]
        return other

    def other_states(self, cells):
        other = cells.copy()
        other.obs["cell_type"] = [name.replace("state1", "hela") for name in cells.obs["cell_type"]]
        return other

    cases = pytest.mark.parametrize(
        ("change", "message"),
        [
            (other_genes, r"gene_names differ\. Checkpoint: \d+ \(G1, .*\)\. Data: \d+ \(G30, "),
            (
                other_perturbations,
                r"perturbations differ\. Checkpoint: 6 \(P1, P2, .*\)\. Data: 6 \(O1, P2, ",
            ),
            (other_states, r"values of 'cell_type' differ\. Checkpoint: 3 \(state1, .*\)\. Data: 3 \(hela, state2"),
        ],
        ids=["genes", "perturbations", "states"],
    )

    @cases
    def test_predicting(self, cells, change, message):
        with pytest.raises(PerturbenchError, match=message):
            predict(trained("linear"), make_module(adata=change(self, cells)), accelerator="cpu")

    @cases
    def test_testing(self, cells, change, message):
        trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
        with pytest.raises(PerturbenchError, match=message):
            trainer.test(trained("linear"), make_module(adata=change(self, cells)), verbose=False)

    @cases
    def test_predicting_with_a_trainer(self, cells, change, message):
        trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
        with pytest.raises(PerturbenchError, match=message):
            trainer.predict(trained("linear"), make_module(adata=change(self, cells)))

    @cases
    def test_training(self, cells, module, change, message):
        with pytest.raises(PerturbenchError, match=message):
            fit(
                build("linear", module.context), make_module(adata=change(self, cells)), max_epochs=1, accelerator="cpu"
            )

    def test_what_differs_is_named(self, cells):
        other = cells.copy()
        other.obs["condition"] = [name.replace("P6", "Q6") for name in cells.obs["condition"]]
        with pytest.raises(PerturbenchError, match="Q6"):
            predict(trained("linear"), make_module(adata=other), accelerator="cpu")
        other = cells.copy()
        other.var_names = [*cells.var_names[:-1], "renamed"]
        with pytest.raises(PerturbenchError, match="renamed"):
            predict(trained("linear"), make_module(adata=other), accelerator="cpu")

    def test_other_covariates(self):
        with pytest.raises(PerturbenchError, match=r"covariate_keys differ\. Checkpoint: 1 \(cell_type\)\. Data: 5"):
            predict(trained("linear"), make_module(COVARIATES[5]), accelerator="cpu")
