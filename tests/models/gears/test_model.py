"""GEARS as a model: its loss and schedule are the package's, and it trains, resumes and predicts."""

import logging
import subprocess
import sys
import warnings

import anndata as ad
import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from tests.models.gears.small_gears import GEARS, SMALL, build, make_gears_module, observed_batch, train, write_table
from tests.models.small_models import COVARIATES
from tests.projects import TINY

from perturbench.analysis import evaluate
from perturbench.data import PerturbationDataModule, simulate
from perturbench.data.groups import Keys
from perturbench.data.splits import SplitRules, split_cells
from perturbench.errors import PerturbenchError
from perturbench.models import Gears
from perturbench.preprocessing import prepare
from perturbench.training.checkpoints import build_model, load_model
from perturbench.training.fitting import fit
from perturbench.training.prediction import predict


def test_loss_is_the_packages(checkpoint, module):
    from gears.utils import loss_fct

    model, batch = load_model(checkpoint), observed_batch(module)
    model._prepare_loss(module)
    names = module.groups.conditions
    codes = module.groups.condition_codes[[module.adata.obs_names.get_loc(cell) for cell in batch.ids]]
    perturbations = ["ctrl" if names[code] == "control" else names[code] for code in codes]
    trained = module.adata[module.rows["train"]]
    means = {name: trained[trained.obs["condition"] == name].X.mean(axis=0).A1 for name in names}
    assert any((mean == 0).any() for name, mean in means.items() if name in perturbations), "else nothing is left out"
    with torch.no_grad():
        start = torch.where(batch.perturbations.any(dim=1, keepdim=True), batch.controls, batch.gene_expression)
        theirs = loss_fct(
            model.network(start, batch.perturbations),
            batch.gene_expression,
            perturbations,
            ctrl=torch.from_numpy(means["control"]).float(),
            direction_lambda=0.1,
            dict_filter={name: np.flatnonzero(mean) for name, mean in means.items()},
        )
        assert float(model.loss(batch)) == pytest.approx(float(theirs), rel=1e-5)


def test_optimizer_schedule_and_clipping_are_the_packages(module, gene2go):
    rates, largest = [], []

    class Watch(L.pytorch.callbacks.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            for parameter in pl_module.parameters():
                parameter.grad = 1e6 * torch.ones_like(parameter)

        def on_before_zero_grad(self, trainer, pl_module, optimizer):
            grads = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
            largest.extend(float(grad.abs().max()) for grad in grads)

    fit(build(module, gene2go), module, max_epochs=3, min_epochs=3, accelerator="cpu", callbacks=[Watch()])
    assert rates == pytest.approx([1e-3, 5e-4, 2.5e-4])
    assert max(largest) == 1.0


def test_same_seed_same_predictions_and_another_other(checkpoint, module, gene2go):
    def predicted(checkpoint):
        return predict(load_model(checkpoint), module, accelerator="cpu").X

    assert np.array_equal(predicted(train(module, gene2go, max_epochs=2)), predicted(checkpoint))
    assert not np.array_equal(predicted(train(module, gene2go, max_epochs=2, seed=1)), predicted(checkpoint))


@pytest.fixture(scope="module")
def in_a_fresh_process(module, annotation, tmp_path_factory):
    """What a new process finds and predicts from a checkpoint without its GO annotation, and the prediction here."""
    folder = tmp_path_factory.mktemp("fresh_process")
    checkpoint = train(module, write_table(folder / "gene2go.tsv", annotation))
    (folder / "gene2go.tsv").unlink()
    batch = module.counterfactuals()[:20]
    torch.save(checkpoint, folder / "model.ckpt")
    torch.save({"controls": batch.controls, "perturbations": batch.perturbations}, folder / "batch.pt")
    code = """
import sys, torch, warnings
from perturbench.data.types import Batch
from perturbench.models import Gears
from perturbench.training import load_model

def state():
    return torch.get_rng_state().tolist(), list(warnings.filters), torch.get_num_threads()

found = {"imported_early": bool({"gears", "torch_geometric"} & set(sys.modules))}
torch.set_num_threads(1)
torch.manual_seed(5)
before = state()
from perturbench.models.gears.model import _network_class
_network_class()
found["process_changed"] = state() != before
batch = Batch(None, covariates={}, **torch.load("batch.pt"))
with torch.no_grad():
    found["predicted"] = load_model("model.ckpt").predict(batch)
torch.save(found, "found.pt")
"""
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
    with torch.no_grad():
        return torch.load(folder / "found.pt"), load_model(checkpoint).predict(batch)


def test_checkpoint_predicts_the_same_in_a_fresh_process_without_the_annotation(in_a_fresh_process):
    found, here = in_a_fresh_process
    assert torch.equal(found["predicted"], here)


def test_package_is_imported_only_where_it_is_used(in_a_fresh_process):
    assert not in_a_fresh_process[0]["imported_early"]


def test_importing_the_package_does_not_change_the_process(in_a_fresh_process):
    assert not in_a_fresh_process[0]["process_changed"]


def test_absent_package_names_the_extra(module, gene2go, monkeypatch):
    monkeypatch.delitem(sys.modules, "perturbench.models.gears.network", raising=False)
    monkeypatch.setitem(sys.modules, "gears.model", None)
    with pytest.raises(PerturbenchError, match=r'pip install "perturbench\[gears\]"'):
        build(module, gene2go)


def test_resumed_training_is_the_uninterrupted_one(module, gene2go, tmp_path):
    class Stop(L.pytorch.callbacks.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 2:
                raise RuntimeError("broken off")

    options = {"max_epochs": 4, "min_epochs": 4, "accelerator": "cpu"}
    resume = {"resume_dir": tmp_path / "unfinished", "fingerprint": "a"}
    with pytest.raises(RuntimeError, match="broken off"):
        fit(build(module, gene2go), module, **options, **resume, callbacks=[Stop()])
    resumed = fit(build(module, gene2go), module, **options, **resume)
    straight = fit(build(module, gene2go), module, **options)
    assert resumed["epoch"] == straight["epoch"]
    assert all(torch.equal(resumed["state_dict"][name], value) for name, value in straight["state_dict"].items())


def test_checkpoint_names_the_annotation(checkpoint, gene2go):
    from perturbench.provenance import fingerprint_file

    assert checkpoint["hyper_parameters"]["gene2go"] == gene2go
    assert checkpoint["perturbench_model"]["training_record"]["gene2go_sha256"] == fingerprint_file(gene2go)


def test_held_out_cells_change_nothing(cells, module, gene2go, checkpoint):
    changed = cells.copy()
    heldout = np.setdiff1d(np.arange(cells.n_obs), module.rows["train"])
    changed.X = changed.X.toarray()
    changed.X[heldout] = np.random.default_rng(0).random((len(heldout), cells.n_vars)).astype(np.float32)
    other = make_gears_module(changed)
    models = [build(module, gene2go) for _ in range(2)]
    for model, data in zip(models, (module, other), strict=True):
        model._prepare_loss(data)
        model._build_graphs(data)
    one, two = (dict(model.named_buffers()) for model in models)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert one["network.G_coexpress_weight"].count_nonzero() > cells.n_vars, "more than each gene's edge from itself"


def test_controls_start_from_themselves(checkpoint, module):
    """As in the package, the loss of control cells does not depend on the controls that they are matched with."""
    model, batch = load_model(checkpoint), observed_batch(module, 200)
    is_control = ~batch.perturbations.any(dim=1)
    controls = batch._replace(
        gene_expression=batch.gene_expression[is_control],
        perturbations=batch.perturbations[is_control],
        controls=batch.controls[is_control],
    )
    with torch.no_grad():
        assert torch.equal(model.loss(controls), model.loss(controls._replace(controls=controls.controls + 1)))
        assert not torch.equal(model.loss(batch), model.loss(batch._replace(controls=batch.controls + 1)))


@pytest.mark.parametrize("n_covariates", COVARIATES)
def test_any_number_of_covariates(cells, gene2go, n_covariates):
    module = make_gears_module(cells, COVARIATES[n_covariates])
    predicted = predict(load_model(train(module, gene2go)), module, accelerator="cpu")
    assert predicted.shape == (10 * len(module.pairs("test")), module.adata.n_vars)
    assert np.isfinite(predicted.X).all()


def test_batches_of_one_cell(cells, gene2go):
    module = make_gears_module(cells, batch_size=1, max_control_cells=1)
    module.rows["train"] = module.rows["train"][::10]
    predicted = predict(load_model(train(module, gene2go)), module, accelerator="cpu")
    assert predicted.n_obs == len(module.pairs("test"))
    assert np.isfinite(predicted.X).all()


def test_mixed_precision(module, gene2go):
    """What the environment gpu trains with."""
    options = {"max_epochs": 1, "accelerator": "cpu", "precision": "bf16-mixed"}
    predicted = predict(load_model(fit(build(module, gene2go), module, **options)), module, accelerator="cpu")
    assert np.isfinite(predicted.X).all()


def test_pipelines_train_predict_and_evaluate_it(run, gene2go, annotation):
    run(**TINY, model="gears", hparams={"gene2go": gene2go, **SMALL})
    board = pd.read_csv(run.root / "data/08_reporting/simulated/leaderboard.csv")
    assert board["model"].tolist() == ["gears"]
    assert board["rmse_average"].notna().all()
    stored = torch.load(run.root / "data/06_models/simulated/gears/seed0.ckpt", weights_only=True)
    assert stored["perturbench"]["hparams"]["gene2go"] == gene2go


def test_it_learns_effects_of_combinations(tmp_path):
    """With known effects, after a few epochs, the predictions of held-out combinations are better than the controls."""
    adata = simulate(n_cells=1500, n_genes=40, n_states=1, n_singles=8, n_doubles=8, effect_size=1.5, seed=1)
    adata = prepare(adata, Keys(), n_top_genes=40, n_de_genes=0)
    split = split_cells(adata.obs, Keys(), "combine", SplitRules(max_heldout_fraction_per_covariate=0.5), 0)
    module = PerturbationDataModule(adata, split, Keys(), batch_size=32, max_control_cells=100)
    rng = np.random.default_rng(0)
    names = [*module.context["perturbation_uniques"], *adata.var_names]
    annotation = {name: {f"GO:{i}" for i in rng.permutation(30)[:4]} for name in names}
    model = build(module, write_table(tmp_path / "go.tsv", annotation), hidden_size=32)
    control = build_model("perturbench.models.control.Control", module.context, {})
    checkpoints = {"gears": fit(model, module, max_epochs=6, accelerator="cpu"), "control": fit(control, module)}
    predictions = {name: predict(load_model(checkpoint), module) for name, checkpoint in checkpoints.items()}
    metrics = ["rmse_average", "cosine_logfc", "rmse_rank_average"]
    observed = adata[module.evaluation_rows("test")]
    board = evaluate(predictions, observed, covariate_keys=["cell_type"], metrics=metrics, negative="clip").summary
    assert board.loc["gears", "rmse_average"] < 0.95 * board.loc["control", "rmse_average"]
    assert board.loc["gears", "cosine_logfc"] > 0.4
    assert board.loc["gears", "rmse_rank_average"] < 0.2, "it distinguishes perturbations"


@pytest.mark.shared
def test_real_combinations(shared, tmp_path):
    """Norman 2019 with real GO terms; one of the perturbed genes has none."""
    adata, keys = ad.read_h5ad(shared / "data/norman19_devel.h5ad"), Keys()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.PerformanceWarning)
        adata = prepare(adata, keys, n_top_genes=80, n_de_genes=0)
    split = split_cells(adata.obs, keys, "combine", SplitRules(max_heldout_fraction_per_covariate=0.3), 0)
    module = PerturbationDataModule(adata, split, keys, batch_size=64, max_control_cells=20)
    model = build(module, shared / "facts/gene2go_human_2019.tsv.gz", hidden_size=16)
    checkpoint = fit(model, module, max_epochs=2, min_epochs=2, accelerator="cpu")
    predicted = predict(load_model(checkpoint), module, accelerator="cpu")
    observed = adata[module.evaluation_rows("test")]
    scores = evaluate({"gears": predicted}, observed, covariate_keys=["cell_type"], negative="clip").summary
    assert scores.notna().all(axis=None)
    go = checkpoint["state_dict"]["network.G_sim_weight"]
    assert go.count_nonzero() > 2 * len(model.nodes), "real genes share GO terms"


@pytest.mark.parametrize("name", ["absent.tsv", None])
def test_missing_file(module, name):
    with pytest.raises(PerturbenchError, match=rf"'{name}' does not exist. GEARS needs a GO annotation, .*pkl"):
        build_model(GEARS, module.context, {"gene2go": name})._build_graphs(module)


def test_default_is_a_place_in_the_project(load_config, project):
    hparams = load_config(model="gears")["parameters"]["hparams"]
    assert hparams["gene2go"] == f"{project.as_posix()}/{Gears.__init__.__defaults__[0]}"


def test_drugs_are_refused(module, tmp_path):
    with pytest.raises(PerturbenchError, match=r"none of the 6 perturbations is a gene of .*: P1, P2.*drugs"):
        train(module, write_table(tmp_path / "go.tsv", {"TP53": {"GO:1"}}))


def test_perturbations_without_terms_are_named(module, annotation, tmp_path, caplog):
    some = {gene: terms for gene, terms in annotation.items() if gene not in ("P2", "P5")}
    with caplog.at_level(logging.WARNING):
        checkpoint = train(module, write_table(tmp_path / "go.tsv", some))
    assert "2 of 6 perturbations have no GO term, so gears cannot relate them to other genes: P2, P5" in caplog.text
    model = load_model(checkpoint)
    edges, weights = model.network.G_sim, model.network.G_sim_weight
    node = model.nodes.index("P2")
    touching = (edges == node).any(dim=0) & (weights > 0)
    assert edges[:, touching].tolist() == [[node], [node]]
