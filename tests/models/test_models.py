import signal
import time

import anndata as ad
import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from perturbench.analysis import evaluate
from perturbench.data import PerturbationDataModule, simulate
from perturbench.data.groups import Keys
from perturbench.data.splits import SplitRules, split_cells
from perturbench.errors import PerturbenchError
from perturbench.models import (
    CPA,
    SAMSVAE,
    Additive,
    BioLord,
    Control,
    DecoderOnly,
    LatentAdditive,
    LinearAdditive,
    MeanResponse,
    PerturbationMean,
    PerturbationModel,
    Ridge,
)
from perturbench.preprocessing import prepare
from perturbench.training.checkpoints import build_model, load_model
from perturbench.training.fitting import fit
from perturbench.training.prediction import predict

SMALL = {"n_layers": 1, "encoder_width": 8}
LATENT = SMALL | {"latent_dim": 4, "dropout": 0.2}
CPA_SMALL = {"n_latent": 4, "hidden_dim": 8, "adv_classifier_hidden_dim": 8, "dropout": 0.2, "n_warmup_epochs": 1}
SAMS_SMALL = {"latent_dim": 4, "hidden_dim_x": 8, "hidden_dim_cond": 8, "dropout": 0.2}
WITH_COVARIATES = {"inject_covariates_encoder": True, "inject_covariates_decoder": True}
MODELS = {
    "control": (Control, {}),
    "mean_response": (MeanResponse, {}),
    "linear": (LinearAdditive, {"inject_covariates": True}),
    "perturbation_mean": (PerturbationMean, {}),
    "additive": (Additive, {}),
    "ridge": (Ridge, {"n_components": 3}),
    "latent": (LatentAdditive, LATENT | {"inject_covariates_encoder": True}),
    "latent_sparse": (LatentAdditive, LATENT | {"sparse_additive_mechanism": True}),
    "cpa": (CPA, CPA_SMALL),
    "cpa_no_adv": (CPA, CPA_SMALL | {"use_adversary": False, "softplus_output": False}),
    "sams": (SAMSVAE, SAMS_SMALL | WITH_COVARIATES),
    "sams_mean_field": (SAMSVAE, SAMS_SMALL | {"mean_field_encoding": True, "generative_counterfactual": True}),
    "sams_s": (SAMSVAE, SAMS_SMALL | {"sparse_additive_mechanism": False, "embedding_distribution": False}),
    "biolord": (BioLord, LATENT),
    "decoder": (DecoderOnly, SMALL),
    "decoder_cov": (DecoderOnly, SMALL | {"use_perturbations": False}),
    "decoder_pert": (DecoderOnly, SMALL | {"use_covariates": False}),
}
TRAINED = [name for name, (cls, _) in MODELS.items() if not cls.closed_form]
COVARIATES = {0: (), 1: ("cell_type",), 5: ("cell_type", "sex", "line", "day", "plate")}
all_models = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(scope="module")
def cells():
    adata = simulate(n_cells=600, n_genes=30, n_states=3, n_singles=6, n_doubles=4, seed=1)
    state = adata.obs["cell_type"].astype(str)
    adata.obs = adata.obs.assign(sex="f", line=state.str.upper(), day=np.where(state == "state1", 2, 10), plate="p")
    return prepare(adata, Keys(), n_top_genes=25, n_de_genes=1)


@pytest.fixture(scope="module")
def make(cells):
    """Return a function that makes a datamodule with some covariates."""

    def _make(n_covariates=1, adata=cells, **options):
        keys = Keys(covariates=COVARIATES[n_covariates])
        method = "transfer" if n_covariates else "combine"
        split = split_cells(adata.obs, keys, method, SplitRules(max_heldout_fraction_per_covariate=0.5), 0)
        return PerturbationDataModule(adata, split, keys, **{"batch_size": 128, "max_control_cells": 10} | options)

    return _make


@pytest.fixture(scope="module")
def module(make):
    return make()


def build(name, context, **changes):
    cls, hparams = MODELS[name]
    L.seed_everything(0, verbose=False)
    return build_model(f"{cls.__module__}.{cls.__qualname__}", context, hparams | changes)


def train(name, module, max_epochs=2, **options):
    return fit(build(name, module.context), module, max_epochs=max_epochs, min_epochs=1, accelerator="cpu", **options)


@pytest.fixture(scope="module")
def checkpoints(module):
    return {name: train(name, module) for name in MODELS}


def of_part(module, part):
    return module.adata[module.evaluation_rows(part)]


def pairs_in(cells, keys):
    states = map(tuple, cells.obs[list(keys.covariates)].astype(str).to_numpy())
    return pd.Series(list(zip(states, cells.obs[keys.perturbation], strict=True)))


@all_models
def test_checkpoint_round_trips_through_a_file(checkpoints, module, tmp_path, name):
    checkpoint = checkpoints[name]
    torch.save(checkpoint, tmp_path / "model.ckpt")
    loaded = load_model(tmp_path / "model.ckpt")
    assert type(loaded) is MODELS[name][0]
    assert not loaded.training
    assert MODELS[name][1].items() <= dict(loaded.hparams).items()
    assert loaded.training_record["gene_names"] == list(module.adata.var_names)
    here, there = (predict(model, module, accelerator="cpu") for model in (load_model(checkpoint), loaded))
    assert np.array_equal(here.X, there.X)
    assert here.obs.equals(there.obs)


@all_models
def test_checkpoint_is_of_the_trained_weights(checkpoints, module, name):
    new = build(name, module.context).state_dict()
    trained = load_model(checkpoints[name]).state_dict()
    if MODELS[name][0].closed_form:
        assert bool(trained) == (name != "control")
        assert not new
    else:
        assert trained.keys() == new.keys()
        assert all(not torch.equal(trained[key], new[key]) for key in new if "weight" in key)


@all_models
def test_prediction_is_deterministic(checkpoints, module, name):
    one, other = (predict(load_model(checkpoints[name]), module, accelerator="cpu") for _ in range(2))
    assert np.array_equal(one.X, other.X)
    assert np.isfinite(one.X).all()


def test_dropout_is_of_training_alone(checkpoints, module):
    model, batch = load_model(checkpoints["latent"]), module.counterfactuals()[:20]
    with torch.no_grad():
        assert torch.equal(model.predict(batch), model.predict(batch))
        model.train()
        assert not torch.equal(model.predict(batch), model.predict(batch))


@all_models
def test_cell_is_predicted_alike_alone_and_among_others(checkpoints, module, name):
    model, dataset = load_model(checkpoints[name]), module.counterfactuals()
    with torch.no_grad():
        together = model.predict(dataset[:30])
        alone = torch.cat([model.predict(dataset[[i]]) for i in range(30)])
    assert alone.numpy() == pytest.approx(together.numpy(), rel=1e-4, abs=1e-5)


@all_models
def test_example_is_predicted_as_in_its_batch(checkpoints, module, name):
    model = load_model(checkpoints[name])
    for dataset in (module.counterfactuals(), module.observed("val")):
        with torch.no_grad():
            batch = model(dataset[:5])
            one = model(dataset[3])
        assert one.shape == (module.adata.n_vars,)
        if dataset[3].gene_expression is None:  # an observed cell alone draws another control
            assert one.numpy() == pytest.approx(batch[3].numpy(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("n_covariates", COVARIATES)
@all_models
def test_any_number_of_covariates(make, name, n_covariates):
    module = make(n_covariates)
    if name == "decoder_cov" and n_covariates == 0:
        with pytest.raises(PerturbenchError, match=r"decoder_only would see nothing: .* 0 covariate levels"):
            build(name, module.context)
        return
    predicted = predict(load_model(train(name, module, max_epochs=1)), module, accelerator="cpu")
    assert set(pairs_in(predicted, module.keys)) == set(module.pairs("test"))
    assert predicted.shape == (10 * len(module.pairs("test")), module.adata.n_vars)
    assert np.isfinite(predicted.X).all()


@pytest.mark.parametrize("name", TRAINED)
def test_batches_of_one_cell(make, name):
    module = make(batch_size=1, max_control_cells=1)
    module.rows["train"] = module.rows["train"][::10]
    predicted = predict(load_model(train(name, module, max_epochs=1)), module, accelerator="cpu")
    assert predicted.n_obs == len(module.pairs("test"))
    assert np.isfinite(predicted.X).all()


@pytest.mark.parametrize("controls", ["all", "part"])
@all_models
def test_trainer_test_is_evaluate_of_predict(checkpoints, make, name, controls):
    module = make(max_control_cells=7, prediction_controls=controls)
    model = load_model(checkpoints[name])
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    logged = trainer.test(model, module, verbose=False)[0]
    predicted = predict(model, module, accelerator="cpu")
    summary = evaluate({"m": predicted}, of_part(module, "test"), negative="clip").summary.loc["m"]
    assert {f"test_{key}" for key in summary.index} == set(logged)
    for key, value in summary.items():
        assert logged[f"test_{key}"] == pytest.approx(value, abs=1e-6, nan_ok=True)


def test_predictions_are_named(checkpoints, make):
    module = make(max_control_cells=None)
    predicted = predict(load_model(checkpoints["control"]), module, accelerator="cpu")
    assert list(predicted.var_names) == list(module.adata.var_names)
    assert predicted.obs_names.is_unique
    test = of_part(module, "test")
    controls = test[(test.obs["condition"] == "control").to_numpy()]
    counts = pairs_in(predicted, module.keys).value_counts()
    assert set(counts.index) == set(module.pairs("test"))
    for (state, _), count in counts.items():
        assert count == (controls.obs["cell_type"] == state[0]).sum()
    # The model that changes nothing shows which control cell each row is.
    assert np.array_equal(predicted.X, controls[predicted.obs["control_cell"]].X.toarray())
    assert list(predicted.obs["cell_type"]) == list(controls.obs.loc[predicted.obs["control_cell"], "cell_type"])


@pytest.mark.parametrize("part", ["train", "val"])
def test_any_part_is_predicted(checkpoints, module, part):
    predicted = predict(load_model(checkpoints["linear"]), module, part, accelerator="cpu")
    assert set(pairs_in(predicted, module.keys)) == set(module.pairs(part))


@pytest.mark.parametrize("name", ["mean_response", "linear"])
def test_double_with_an_unseen_component_keeps_its_name(cells, make, name):
    split = make().rows
    labels = pd.Series(np.nan, index=cells.obs_names, dtype=object)
    for part, rows in split.items():
        labels.iloc[rows] = part
    double = next(name for name in cells.obs["condition"].unique() if "+" in name)
    strange = double.split("+")[0]
    has = cells.obs["condition"].map(lambda name: strange in name.split("+")).to_numpy(dtype=bool)
    labels[has] = np.nan
    labels[(cells.obs["condition"] == double).to_numpy()] = "test"
    module = PerturbationDataModule(cells, labels, Keys(), batch_size=128)
    assert strange not in module.context["perturbation_uniques"]
    predicted = predict(load_model(train(name, module)), module, accelerator="cpu")
    assert set(pairs_in(predicted, module.keys)) == set(module.pairs("test"))
    assert double in set(predicted.obs["condition"])
    evaluate({"m": predicted}, of_part(module, "test"), negative="clip")


def test_predicting_observed_batches_names_them(checkpoints, module):
    batch = module.observed("val")[:40]
    with torch.no_grad():
        cells = load_model(checkpoints["linear"]).predict_step(batch, 0)
    expected = module.adata[batch.ids].obs
    assert list(cells.obs["condition"]) == list(expected["condition"])
    assert list(cells.obs["cell_type"]) == list(expected["cell_type"])


def test_control_predicts_the_controls(checkpoints, module):
    batch = module.observed("val")[:10]
    assert torch.equal(load_model(checkpoints["control"]).predict(batch), batch.controls)


def test_mean_response_is_its_definition(checkpoints, module):
    model = load_model(checkpoints["mean_response"])
    train = module.adata[module.rows["train"]]
    x, obs = train.X.toarray().astype(np.float64), train.obs
    dataset = module.counterfactuals()
    for pair, (state, _) in enumerate(dataset.pairs):
        own = (obs["cell_type"] == state[0]).to_numpy()
        control = x[own & (obs["condition"] == "control").to_numpy()].mean(axis=0)
        names = sorted(set(obs.loc[own, "condition"]) - {"control"})
        effects = [x[own & (obs["condition"] == name).to_numpy()].mean(axis=0) - control for name in names]
        batch = dataset[np.flatnonzero(dataset[:].groups.numpy() == pair)]
        expected = batch.controls.numpy() + np.mean(effects, axis=0)
        assert model.predict(batch).numpy() == pytest.approx(expected, abs=1e-5)
    observed = module.observed("train")[:]
    unperturbed = ~observed.perturbations.bool().any(dim=1)
    assert torch.equal(model.predict(observed)[unperturbed], observed.controls[unperturbed])


def test_mean_response_of_a_state_without_perturbations(cells, make):
    split = split_cells(cells.obs, Keys(), "manual", SplitRules(heldout_states=[{"cell_type": "state1"}]), 0)
    bare = (cells.obs["cell_type"] == "state2") & (cells.obs["condition"] != "control")
    split[bare.to_numpy()] = np.nan
    module = PerturbationDataModule(cells, split, Keys())
    shift = load_model(train("mean_response", module)).shift
    assert module.context["covariate_uniques"]["cell_type"] == ["state1", "state2", "state3"]
    assert shift[1].numpy() == pytest.approx(shift[[0, 2]].mean(dim=0).numpy(), abs=1e-6)


def test_linear_adds_one_effect_per_perturbation(checkpoints, module):
    model = load_model(checkpoints["linear"])
    batch = module.counterfactuals()[:5]
    effect, bias = model.effect.weight.detach(), model.effect.bias.detach()
    inputs = torch.cat([batch.perturbations, batch.covariates["cell_type"]], dim=1)
    expected = torch.log1p(torch.exp(batch.controls + inputs @ effect.T + bias))
    assert model.predict(batch).detach().numpy() == pytest.approx(expected.numpy(), abs=1e-5)


@pytest.mark.parametrize("name", ["linear", "latent", "decoder"])
def test_predictions_are_positive(checkpoints, module, name):
    assert predict(load_model(checkpoints[name]), module, accelerator="cpu").X.min() > 0


@pytest.mark.parametrize(
    ("name", "hparams", "seen"),
    [
        ("linear", {}, "controls perturbations cell_type"),
        ("linear", {"inject_covariates": False}, "controls perturbations"),
        ("latent", {}, "controls perturbations cell_type"),
        ("latent", {"inject_covariates_encoder": False}, "controls perturbations"),
        (
            "latent",
            {"inject_covariates_encoder": False, "inject_covariates_decoder": True},
            "controls perturbations cell_type",
        ),
        ("decoder", {}, "perturbations cell_type"),
        ("decoder_cov", {}, "cell_type"),
        ("decoder_pert", {}, "perturbations"),
    ],
)
def test_model_sees_what_it_is_told_to(module, name, hparams, seen):
    model, batch = build(name, module.context, **hparams).eval(), module.counterfactuals()[:20]
    changes = {
        "controls": batch._replace(controls=batch.controls.roll(1, dims=1)),
        "perturbations": batch._replace(perturbations=batch.perturbations.roll(1, dims=1)),
        "cell_type": batch._replace(covariates={"cell_type": batch.covariates["cell_type"].roll(1, dims=1)}),
    }
    with torch.no_grad():
        before = model.predict(batch)
        changed = [what for what, other in changes.items() if not torch.equal(model.predict(other), before)]
    assert changed == seen.split()


def test_latent_effects_add_up(checkpoints, module):
    model, batch = load_model(checkpoints["latent"]), module.counterfactuals()[:20]
    with torch.no_grad():
        cell = model.cell_encoder(torch.cat([batch.controls, batch.covariates["cell_type"]], dim=1))
        decoded = model.decoder(cell + model.perturbation_encoder(batch.perturbations))
        assert torch.equal(model.predict(batch), torch.nn.functional.softplus(decoded))


def test_decoder_of_covariates_is_fully_collapsed(checkpoints, module):
    predicted = predict(load_model(checkpoints["decoder_cov"]), module, accelerator="cpu")
    scores = evaluate({"m": predicted}, of_part(module, "test")).scores
    per_state = scores.groupby("cell_type")["perturbation"].nunique()
    assert (per_state > 1).all()
    assert set(scores.loc[scores["metric"].str.contains("rank"), "value"]) == {0.5}


@pytest.mark.parametrize("covariates", [True, False])
def test_decoder_that_would_see_nothing(make, covariates):
    context = make(0 if covariates else 1).context
    with pytest.raises(PerturbenchError, match=rf"would see nothing: use_covariates={covariates}"):
        DecoderOnly(context, use_covariates=covariates, use_perturbations=False)


@pytest.mark.parametrize("name", TRAINED)
def test_same_seed_same_weights(checkpoints, make, name):
    again = train(name, make())
    for key, value in checkpoints[name]["state_dict"].items():
        assert torch.equal(again["state_dict"][key], value)


def test_other_seed_other_weights(checkpoints, make):
    other = train("latent", make(seed=1), seed=1)["state_dict"]
    assert any(not torch.equal(other[key], value) for key, value in checkpoints["latent"]["state_dict"].items())


def test_training_lowers_the_loss(module):
    losses = []

    class Watch(Callback):
        def on_validation_end(self, trainer, pl_module):
            losses.append(float(trainer.callback_metrics["val_loss"]))

    model = build("linear", module.context)
    model.lr = 0.05
    fit(model, module, max_epochs=8, accelerator="cpu", callbacks=[Watch()])
    assert len(losses) == 8
    assert losses[-1] < 0.8 * losses[0]


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
            (other_genes, r"gene_names differ\. Checkpoint: \d+ \(G2, .*\)\. Data: \d+ \(G30, "),
            (
                other_perturbations,
                r"perturbations differ\. Checkpoint: 6 \(P1, P2, .*\)\. Data: 6 \(O1, P2, ",
            ),
            (other_states, r"values of 'cell_type' differ\. Checkpoint: 3 \(state1, .*\)\. Data: 3 \(hela, state2"),
        ],
        ids=["genes", "perturbations", "states"],
    )

    @cases
    def test_predicting(self, checkpoints, cells, make, change, message):
        with pytest.raises(PerturbenchError, match=message):
            predict(load_model(checkpoints["linear"]), make(adata=change(self, cells)), accelerator="cpu")

    @cases
    def test_testing(self, checkpoints, cells, make, change, message):
        trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
        with pytest.raises(PerturbenchError, match=message):
            trainer.test(load_model(checkpoints["linear"]), make(adata=change(self, cells)), verbose=False)

    @cases
    def test_predicting_with_a_trainer(self, checkpoints, cells, make, change, message):
        trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
        with pytest.raises(PerturbenchError, match=message):
            trainer.predict(load_model(checkpoints["linear"]), make(adata=change(self, cells)))

    @cases
    def test_training(self, cells, module, make, change, message):
        with pytest.raises(PerturbenchError, match=message):
            fit(build("linear", module.context), make(adata=change(self, cells)), max_epochs=1, accelerator="cpu")

    def test_what_differs_is_named(self, checkpoints, cells, make):
        other = cells.copy()
        other.obs["condition"] = [name.replace("P6", "Q6") for name in cells.obs["condition"]]
        with pytest.raises(PerturbenchError, match="Q6"):
            predict(load_model(checkpoints["linear"]), make(adata=other), accelerator="cpu")
        other = cells.copy()
        other.var_names = [*cells.var_names[:-1], "renamed"]
        with pytest.raises(PerturbenchError, match="renamed"):
            predict(load_model(checkpoints["linear"]), make(adata=other), accelerator="cpu")

    def test_other_covariates(self, checkpoints, make):
        with pytest.raises(PerturbenchError, match=r"covariate_keys differ\. Checkpoint: 1 \(cell_type\)\. Data: 5"):
            predict(load_model(checkpoints["linear"]), make(5), accelerator="cpu")


class TestBuild:
    @pytest.mark.parametrize(
        "target", ["perturbench.models.Nothing", "perturbench.nowhere.Model", "Model", "", "perturbench.models.nn.."]
    )
    def test_unknown_target(self, module, target):
        with pytest.raises(PerturbenchError, match=f"model class '{target}' cannot be imported"):
            build_model(target, module.context, {})

    @pytest.mark.parametrize("target", ["perturbench.models.nn.MLP", "numpy.mean"])
    def test_target_that_is_no_model(self, module, target):
        with pytest.raises(PerturbenchError, match=f"'{target}' is not a subclass of perturbench.models.Perturbation"):
            build_model(target, module.context, {})

    def test_unknown_hyperparameter(self, module):
        with pytest.raises(PerturbenchError, match=r"does not take the hyperparameters \{'depth': 3\}: .*'depth'"):
            build_model("perturbench.models.LatentAdditive", module.context, {"depth": 3})

    @pytest.mark.parametrize("hparams", [{"n_layers": 0}, {"dropout": 1.5}])
    def test_hyperparameter_out_of_range(self, module, hparams):
        with pytest.raises(PerturbenchError, match=next(iter(hparams))):
            build_model("perturbench.models.LatentAdditive", module.context, hparams)

    def test_checkpoint_of_something_else(self):
        with pytest.raises(PerturbenchError, match="not a checkpoint of a PerturbationModel"):
            load_model({"state_dict": {}})

    @pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
    def test_file_of_something_else(self, tmp_path, content):
        (tmp_path / "model.ckpt").write_bytes(content)
        with pytest.raises(PerturbenchError, match=r"model\.ckpt"):
            load_model(tmp_path / "model.ckpt")

    def test_missing_file(self, tmp_path):
        with pytest.raises((PerturbenchError, FileNotFoundError), match=r"absent\.ckpt"):
            load_model(tmp_path / "absent.ckpt")


class Halfway(PerturbationModel):
    """A model as a user would add one: a class with a predict."""

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


class Stop(Callback):
    """Break off a training at the start of an epoch, and note the epochs seen."""

    def __init__(self, at=None, error=RuntimeError):
        self.at, self.error, self.epochs = at, error, []

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.at:
            raise self.error("broken off")
        self.epochs.append(trainer.current_epoch)


class TestResume:
    def run(self, module, folder, stop, fingerprint="a", name="linear", **options):
        options = {"max_epochs": 4, "resume_dir": folder, "fingerprint": fingerprint} | options
        return train(name, module, callbacks=[stop], **options)

    def interrupt(self, module, folder, at=2, **options):
        with pytest.raises(RuntimeError, match="broken off"):
            self.run(module, folder, Stop(at), **options)

    def test_goes_on_from_its_last_epoch(self, module, tmp_path):
        self.interrupt(module, tmp_path / "unfinished")
        again = Stop()
        resumed = self.run(module, tmp_path / "unfinished", again)
        assert again.epochs == [2, 3]
        straight = self.run(module, None, Stop())
        assert resumed["epoch"] == straight["epoch"]
        assert resumed["global_step"] == straight["global_step"]
        assert resumed["losses"] == straight["losses"], "the epochs before the interruption, too"
        assert resumed["losses"]["epoch"] == [1, 2, 3, 4]
        assert np.isfinite([resumed["losses"]["train_loss"], resumed["losses"]["val_loss"]]).all()
        for key, value in straight["state_dict"].items():
            assert torch.equal(resumed["state_dict"][key], value)

    def test_may_be_broken_off_twice(self, module, tmp_path):
        self.interrupt(module, tmp_path / "unfinished", at=1)
        self.interrupt(module, tmp_path / "unfinished", at=3)
        again = Stop()
        self.run(module, tmp_path / "unfinished", again)
        assert again.epochs == [3]

    @pytest.mark.parametrize("at", [0, 2])
    def test_other_training_starts_over(self, module, tmp_path, at):
        self.interrupt(module, tmp_path / "unfinished", at=at)
        again = Stop()
        self.run(module, tmp_path / "unfinished", again, fingerprint="b")
        assert again.epochs == [0, 1, 2, 3]

    def test_a_state_that_takes_long_to_save_is_not_saved_after_each_epoch(self, module, tmp_path, monkeypatch):
        class StopAndSaveSlowly(Stop):
            def on_save_checkpoint(self, trainer, pl_module, checkpoint):
                time.sleep(0.2)

        monkeypatch.setattr("perturbench.training.callbacks._SLOW", 0.1)
        monkeypatch.setattr("perturbench.training.callbacks._SHARE", 1e-6)
        with pytest.raises(RuntimeError, match="broken off"):
            self.run(module, tmp_path / "unfinished", StopAndSaveSlowly(at=3))
        again = Stop()
        self.run(module, tmp_path / "unfinished", again)
        assert again.epochs == [1, 2, 3]

    def test_nothing_is_left_behind(self, module, tmp_path):
        folder = tmp_path / "unfinished"
        self.interrupt(module, folder)
        assert list(folder.iterdir())
        checkpoint = self.run(module, folder, Stop())
        assert list(tmp_path.iterdir()) == []
        assert str(tmp_path) not in str({key: value for key, value in checkpoint.items() if key != "state_dict"})

    def test_nothing_is_left_behind_without_an_interruption(self, module, tmp_path):
        for name in ("linear", "control"):
            self.run(module, tmp_path / "unfinished", Stop(), name=name)
            assert list(tmp_path.iterdir()) == []

    def test_without_a_folder_nothing_is_written(self, module, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        train("linear", module)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("left", [0, 100, -100, None])
    def test_torn_state_starts_over(self, module, tmp_path, left):
        folder = tmp_path / "unfinished"
        self.interrupt(module, folder)
        whole = (folder / "latest.ckpt").read_bytes()
        (folder / "latest.ckpt").write_bytes(b"garbage" if left is None else whole[:left])
        again = Stop()
        self.run(module, folder, again)
        assert again.epochs == [0, 1, 2, 3]

    def test_keyboard_interrupt_can_be_resumed(self, module, tmp_path):
        handler = signal.getsignal(signal.SIGINT)
        try:
            self.break_off(module, tmp_path)
            assert signal.getsignal(signal.SIGINT) is handler
        finally:
            signal.signal(signal.SIGINT, handler)

    def break_off(self, module, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            self.run(module, tmp_path / "unfinished", Stop(2, KeyboardInterrupt))
        again = Stop()
        self.run(module, tmp_path / "unfinished", again)
        assert again.epochs == [2, 3]


def test_two_processes_are_one_with_batches_twice_as_large(make):
    def weights(**options):
        module = make(batch_size=options.pop("batch_size"))
        for part in ("train", "val"):
            module.rows[part] = module.rows[part][: 64 * (len(module.rows[part]) // 64)]
        return train("linear", module, **options)["state_dict"]

    one, two = weights(batch_size=64), weights(batch_size=32, devices=2, strategy="ddp_spawn")
    for key, value in one.items():
        assert two[key].numpy() == pytest.approx(value.numpy(), rel=1e-3, abs=1e-5)


def test_strategy_that_would_run_the_command_again(module):
    with pytest.raises(PerturbenchError, match="'ddp' starts the whole command again for every device; use ddp_spawn"):
        train("linear", module, devices=2, strategy="ddp")


def test_loss_that_is_never_finite(module):
    model = build("linear", module.context)
    with torch.no_grad():
        model.effect.bias.fill_(torch.nan)
    with pytest.raises(PerturbenchError, match=r"LinearAdditive ended without a finite val_loss .* \(lr=0\.001\)"):
        fit(model, module, max_epochs=2, accelerator="cpu")


@pytest.mark.parametrize("options", [{"preload_to_device": True}, {"num_workers": 2}], ids=str)
def test_where_batches_are_made_does_not_matter(make, options):
    one, other = (train("latent", make(**changes))["state_dict"] for changes in ({}, options))
    for key, value in one.items():
        assert torch.equal(value, other[key])


def test_gradients_can_be_clipped_in_mixed_precision(module):
    train("latent", module, max_epochs=1, gradient_clip_val=0.1, precision="bf16-mixed")


def test_early_stopping(module):
    stop = Stop()
    model = build("linear", module.context)
    model.lr = 0.0
    fit(model, module, max_epochs=20, min_epochs=1, patience=2, accelerator="cpu", callbacks=[stop])
    assert stop.epochs == [0, 1, 2]


def test_observed_batch_is_needed_to_train(module):
    model = build("linear", module.context)
    with pytest.raises(PerturbenchError, match="no observed expression"):
        model.loss(module.counterfactuals()[:3])
    with pytest.raises(PerturbenchError, match="no matched controls"):
        model.predict(module.observed("val")[:3]._replace(controls=None))
