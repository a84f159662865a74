"""GEARS: the same as its package where that is unambiguous, and one of our models everywhere else."""

import gzip
import logging
import pickle
import subprocess
import sys
import warnings
from types import SimpleNamespace

import anndata as ad
import lightning as L
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from tests.projects import TINY

from perturbench.analysis import evaluate
from perturbench.data import PerturbationDataModule, simulate
from perturbench.data.groups import Keys
from perturbench.data.loading.cell_matrix import CellMatrix
from perturbench.data.splits import SplitRules, split_cells
from perturbench.errors import PerturbenchError
from perturbench.models.gears.graphs import coexpression, go_similarity, read_gene2go, strongest_edges
from perturbench.models.gears.model import Gears
from perturbench.preprocessing import prepare
from perturbench.provenance import Stamp, fingerprint_file
from perturbench.training.checkpoints import build_model, load_model
from perturbench.training.fitting import fit
from perturbench.training.prediction import predict

GEARS = "perturbench.models.gears.model.Gears"
SMALL = {"hidden_size": 8, "num_similar_genes_go_graph": 4, "num_similar_genes_co_express_graph": 5}
COVARIATES = {0: (), 1: ("cell_type",), 5: ("cell_type", "sex", "line", "day", "plate")}


@pytest.fixture(scope="module")
def cells():
    adata = simulate(n_cells=600, n_genes=30, n_states=3, n_singles=6, n_doubles=4, seed=1)
    counts = adata.X.toarray()
    counts[np.ix_(adata.obs["condition"] == "P1", np.arange(30) % 5 == 0)] = 0
    adata.X = sp.csr_matrix(counts)
    adata.obs = adata.obs.assign(sex="f", line=adata.obs["cell_type"].astype(str).str.upper(), day="2", plate="p")
    return prepare(adata, Keys(), n_top_genes=25, n_de_genes=1)


@pytest.fixture(scope="module")
def annotation(cells):
    """Made-up GO terms of all perturbations and half of the genes: symbol -> terms."""
    rng = np.random.default_rng(0)
    terms = [f"GO:{i:07d}" for i in range(12)]
    genes = [*(f"P{i}" for i in range(1, 7)), *cells.var_names[::2]]
    return {gene: set(rng.permutation(terms)[: rng.integers(2, 7)].tolist()) for gene in genes}


@pytest.fixture(scope="module")
def gene2go(annotation, tmp_path_factory):
    return str(write_table(tmp_path_factory.mktemp("go") / "gene2go.tsv", annotation))


def write_table(path, annotation):
    lines = [f"{gene}\t{term}\tP\n" for gene, terms in annotation.items() for term in sorted(terms)]
    path.write_text("symbol\tgo\taspect\n" + "".join(lines))
    return path


@pytest.fixture(scope="module")
def make(cells):
    """Return a function that makes a datamodule with some covariates."""

    def _make(n_covariates=1, adata=cells, **options):
        keys = Keys(covariates=COVARIATES[n_covariates])
        method = "transfer" if n_covariates else "combine"
        split = split_cells(adata.obs, keys, method, SplitRules(max_heldout_fraction_per_covariate=0.5), 0)
        return PerturbationDataModule(adata, split, keys, **{"batch_size": 64, "max_control_cells": 10} | options)

    return _make


@pytest.fixture(scope="module")
def module(make):
    return make()


def build(module, gene2go, seed=0, **changes):
    L.seed_everything(seed, verbose=False)
    return build_model(GEARS, module.context, {"gene2go": str(gene2go), **SMALL, **changes})


def train(module, gene2go, max_epochs=1, seed=0, **changes):
    model = build(module, gene2go, seed, **changes)
    return fit(model, module, seed=seed, max_epochs=max_epochs, min_epochs=1, accelerator="cpu")


@pytest.fixture(scope="module")
def checkpoint(module, gene2go):
    return train(module, gene2go, max_epochs=2)


@pytest.fixture(scope="module")
def packaged(module, annotation, checkpoint, tmp_path_factory):
    """GEARS as its own code builds it from the training cells, with the trained weights.

    The package's node map has annotated genes only, ours all, so rows of the embedding are matched by name.
    """
    from gears.model import GEARS_Model
    from gears.utils import GeneSimNetwork, get_coexpression_network_from_train, get_GO_edge_list

    trained = module.adata[module.rows["train"]]
    names = (
        trained.obs["condition"]
        .astype(str)
        .map(lambda name: "ctrl" if name == "control" else name if "+" in name else f"{name}+ctrl")
    )
    genes = list(trained.var_names)
    data = ad.AnnData(trained.X, pd.DataFrame({"condition": names}), pd.DataFrame({"gene_name": genes}, index=genes))
    folder = tmp_path_factory.mktemp("package")
    edges = get_coexpression_network_from_train(
        data, 0.4, 5, str(folder), "", "custom", 1, 0.75, {"train": list(names.unique())}
    )
    together = GeneSimNetwork(edges, genes, {gene: i for i, gene in enumerate(genes)})

    nodes = sorted(annotation)
    rows = [edge for gene in nodes for edge in get_GO_edge_list((gene, {gene: annotation[gene] for gene in nodes}))]
    frame = pd.DataFrame(rows, columns=["source", "target", "importance"])
    groups = [of_target.nlargest(4 + 1, ["importance"]) for _, of_target in frame.groupby("target")]
    go = GeneSimNetwork(pd.concat(groups), nodes, {gene: i for i, gene in enumerate(nodes)})

    ours = load_model(checkpoint)
    network = GEARS_Model(
        {
            "num_genes": len(genes),
            "num_perts": len(nodes),
            "hidden_size": 8,
            "uncertainty": False,
            "num_go_gnn_layers": 1,
            "num_gene_gnn_layers": 1,
            "decoder_hidden_size": 16,
            "no_perturb": False,
            "G_coexpress": together.edge_index,
            "G_coexpress_weight": together.edge_weight,
            "G_go": go.edge_index,
            "G_go_weight": go.edge_weight,
            "device": "cpu",
        }
    )
    weights = {name: value for name, value in ours.network.state_dict().items() if not name.startswith("G_")}
    weights["pert_emb.weight"] = weights["pert_emb.weight"][[ours.nodes.index(gene) for gene in nodes]]
    network.load_state_dict(weights)
    of_perturbation = [nodes.index(name) for name in module.context["perturbation_uniques"]]

    def forward(start, perturbations):
        index = [[of_perturbation[j] for j in np.flatnonzero(row)] or [-1] for row in perturbations.numpy()]
        batch = torch.arange(len(start)).repeat_interleave(start.shape[1])
        return network(SimpleNamespace(x=start.reshape(-1, 1), pert_idx=index, batch=batch))

    forward.network = network
    return forward


def observed_batch(module, n=24):
    """Cells of many conditions, controls among them."""
    return module.observed("train")[np.random.default_rng(0).permutation(len(module.rows["train"]))[:n]]


def test_prediction_is_the_packages(checkpoint, module, packaged):
    """Graphs, weights and forward pass at once; the package sees one cell at a time, see GearsNetwork."""
    model, batch = load_model(checkpoint), observed_batch(module)
    singles = batch.perturbations.sum(dim=1)
    assert {0, 1, 2} == set(singles.int().tolist())
    packaged.network.eval()
    with torch.no_grad():
        theirs = torch.cat([packaged(batch.controls[[i]], batch.perturbations[[i]]) for i in range(24)])
        ours = model.predict(batch)
    assert ours.numpy() == pytest.approx(theirs.numpy(), rel=1e-4, abs=1e-5)
    assert np.abs((ours - batch.controls).numpy()).max() > 0.01


def test_gradients_are_the_packages(checkpoint, module, annotation, packaged):
    """In training, with the co-expression graph repeated for each cell, which is what the package leaves out."""
    model, batch = load_model(checkpoint).train(), observed_batch(module)
    theirs = packaged.network.train()
    edges, weights, n_genes = theirs.G_coexpress, theirs.G_coexpress_weight, model.n_genes
    offsets = torch.arange(24).repeat_interleave(edges.shape[1]) * n_genes
    theirs.G_coexpress, theirs.G_coexpress_weight = edges.repeat(1, 24) + offsets, weights.repeat(24)
    try:
        for network in (theirs, model):
            network.zero_grad()
        (packaged(batch.controls, batch.perturbations) - batch.gene_expression).pow(2).mean().backward()
        (model.predict(batch) - batch.gene_expression).pow(2).mean().backward()
    finally:
        theirs.G_coexpress, theirs.G_coexpress_weight = edges, weights
    named = {name: weight.grad for name, weight in theirs.named_parameters() if weight.grad is not None}
    assert set(named) == {name for name, weight in model.network.named_parameters() if weight.requires_grad}
    nodes = [model.nodes.index(gene) for gene in sorted(annotation)]
    for name, grad in named.items():
        ours = model.network.get_parameter(name).grad
        ours = ours[nodes] if name == "pert_emb.weight" else ours
        assert ours.numpy() == pytest.approx(grad.numpy(), rel=1e-2, abs=1e-6), name
    assert max(float(grad.abs().max()) for grad in named.values()) > 1e-3


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


def test_what_is_predicted_does_not_depend_on_the_batch(checkpoint, module):
    model, dataset = load_model(checkpoint), module.counterfactuals()
    with torch.no_grad():
        together = model.predict(dataset[:30])
        alone = torch.cat([model.predict(dataset[[i]]) for i in range(30)])
    assert alone.numpy() == pytest.approx(together.numpy(), rel=1e-4, abs=1e-5)


def test_same_seed_same_predictions_and_another_other(checkpoint, module, gene2go):
    def predicted(checkpoint):
        return predict(load_model(checkpoint), module, accelerator="cpu").X

    assert np.array_equal(predicted(train(module, gene2go, max_epochs=2)), predicted(checkpoint))
    assert not np.array_equal(predicted(train(module, gene2go, max_epochs=2, seed=1)), predicted(checkpoint))


@pytest.fixture(scope="module")
def elsewhere(module, annotation, tmp_path_factory):
    """A process that loads a checkpoint, whose GO annotation is gone, and predicts; what it found, and what is here."""
    folder = tmp_path_factory.mktemp("elsewhere")
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


def test_checkpoint_predicts_the_same_in_a_fresh_process_without_the_annotation(elsewhere):
    found, here = elsewhere
    assert torch.equal(found["predicted"], here)


def test_package_is_imported_only_where_it_is_used(elsewhere):
    assert not elsewhere[0]["imported_early"]


def test_importing_the_package_leaves_the_process_alone(elsewhere):
    assert not elsewhere[0]["process_changed"]


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
    resume = {"resume_dir": tmp_path / "unfinished", "stamp": Stamp.make("a")}
    with pytest.raises(RuntimeError, match="broken off"):
        fit(build(module, gene2go), module, **options, **resume, callbacks=[Stop()])
    resumed = fit(build(module, gene2go), module, **options, **resume)
    straight = fit(build(module, gene2go), module, **options)
    assert resumed["epoch"] == straight["epoch"]
    assert all(torch.equal(resumed["state_dict"][name], value) for name, value in straight["state_dict"].items())


def test_checkpoint_names_the_annotation(checkpoint, gene2go):
    assert checkpoint["hyper_parameters"]["gene2go"] == gene2go
    assert checkpoint["perturbench_model"]["training_record"]["gene2go_sha256"] == fingerprint_file(gene2go)


def test_held_out_cells_change_nothing(cells, make, module, gene2go, checkpoint):
    changed = cells.copy()
    heldout = np.setdiff1d(np.arange(cells.n_obs), module.rows["train"])
    changed.X = changed.X.toarray()
    changed.X[heldout] = np.random.default_rng(0).random((len(heldout), cells.n_vars)).astype(np.float32)
    other = make(adata=changed)
    models = [build(module, gene2go) for _ in range(2)]
    for model, data in zip(models, (module, other), strict=True):
        model._prepare_loss(data)
        model._build_graphs(data)
    one, two = (dict(model.named_buffers()) for model in models)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert one["network.G_coexpress_weight"].count_nonzero() > cells.n_vars, "more than each gene's edge from itself"


def test_prediction_uses_both_graphs(checkpoint, module):
    model, batch = load_model(checkpoint), module.counterfactuals()[:20]
    with torch.no_grad():
        before = model.predict(batch)
        for name in ("G_coexpress_weight", "G_sim_weight"):
            model = load_model(checkpoint)
            getattr(model.network, name).zero_()
            assert not torch.allclose(model.predict(batch), before, atol=1e-4), name


def test_controls_start_from_themselves(checkpoint, module):
    """As in the package: the loss of control cells does not see the control they are matched with."""
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
def test_any_number_of_covariates(make, gene2go, n_covariates):
    module = make(n_covariates)
    predicted = predict(load_model(train(module, gene2go)), module, accelerator="cpu")
    assert predicted.shape == (10 * len(module.pairs("test")), module.adata.n_vars)
    assert np.isfinite(predicted.X).all()


def test_batches_of_one_cell(make, gene2go):
    module = make(batch_size=1, max_control_cells=1)
    module.rows["train"] = module.rows["train"][::10]
    predicted = predict(load_model(train(module, gene2go)), module, accelerator="cpu")
    assert predicted.n_obs == len(module.pairs("test"))
    assert np.isfinite(predicted.X).all()


def test_mixed_precision(module, gene2go):
    """What the environment gpu trains with."""
    options = {"max_epochs": 1, "accelerator": "cpu", "precision": "bf16-mixed"}
    predicted = predict(load_model(fit(build(module, gene2go), module, **options)), module, accelerator="cpu")
    assert np.isfinite(predicted.X).all()


def test_batches_with_no_or_one_perturbed_cell(module, gene2go):
    model, batch = build(module, gene2go), observed_batch(module, 200)
    model._prepare_loss(module)
    order = torch.argsort(batch.perturbations.any(dim=1).int(), stable=True)
    n_controls = int((~batch.perturbations.any(dim=1)).sum())
    for chosen in (order[:n_controls], order[: n_controls + 1]):
        part = batch._replace(
            gene_expression=batch.gene_expression[chosen],
            perturbations=batch.perturbations[chosen],
            controls=batch.controls[chosen],
        )
        loss = model.loss(part)
        loss.backward()
        assert torch.isfinite(loss)


@pytest.mark.parametrize("layers", [{"num_go_gnn_layers": 3}, {"num_gene_gnn_layers": 3}])
def test_more_layers_of_a_graph_reach_further(module, gene2go, layers):
    batch = module.counterfactuals()[:20]
    with torch.no_grad():
        one, more = (build(module, gene2go, **hparams).eval().predict(batch) for hparams in ({}, layers))
    assert not torch.allclose(one, more)


def test_pipelines_train_predict_and_evaluate_it(run, gene2go, annotation):
    run(**TINY, model="gears", hparams={"gene2go": gene2go, **SMALL})
    board = pd.read_csv(run.root / "data/08_reporting/simulated/leaderboard.csv")
    assert board["model"].tolist() == ["gears"]
    assert board["rmse_average"].notna().all()
    stored = torch.load(run.root / "data/06_models/simulated/gears/seed0.ckpt", weights_only=True)
    assert Stamp.read(stored).settings["hyperparameters"]["gene2go"] == gene2go


def test_it_learns_effects_of_combinations(tmp_path):
    """On a screen with known effects: nearer to held-out combinations than the controls are, after a few epochs."""
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
    assert board.loc["gears", "rmse_rank_average"] < 0.2, "it tells perturbations apart"


@pytest.mark.shared
def test_real_combinations(shared, tmp_path):
    """Norman 2019 with real GO terms; one of its genes has none."""
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


class TestGraphs:
    @pytest.fixture
    def scores(self):
        scores = np.array([[1, 0.9, 0.2, 0.5], [0.9, 1, 0.3, 0.1], [0.2, 0.3, 1, 0.6], [0.5, 0.1, 0.6, 1]])
        return scores

    def test_strongest_edges(self, scores):
        edges, weights = strongest_edges(scores, k=1, threshold=0.4)
        assert edges.tolist() == [[0, 1, 1, 0, 2, 3, 3, 2], [0, 0, 1, 1, 2, 2, 3, 3]]
        assert weights.tolist() == pytest.approx([1, 0.9, 1, 0.9, 1, 0.6, 1, 0.6])
        assert strongest_edges(scores, k=1, threshold=0.7)[1].tolist() == pytest.approx([1, 0.9, 1, 0.9, 1, 0, 1, 0])

    def test_more_edges_than_nodes(self, scores):
        edges, _ = strongest_edges(scores, k=10, threshold=0.0)
        assert edges.shape == (2, 16)

    def test_coexpression_is_absolute_pearson_correlation(self, module):
        rows = module.rows["train"]
        constant = module.adata.copy()
        constant.X = constant.X.toarray()
        constant.X[:, 3] = 1.5
        found = coexpression(CellMatrix(constant), rows)
        with np.errstate(invalid="ignore"):
            expected = np.abs(np.nan_to_num(np.corrcoef(constant.X[rows].T.astype(float))))
        assert found == pytest.approx(expected, abs=1e-5)
        assert not found[3].any()

    def test_go_similarity_is_the_jaccard_index(self, tmp_path):
        terms = {"A": {"GO:1", "GO:2"}, "B": {"GO:2", "GO:3", "GO:4"}, "other": {"GO:1"}}
        gene2go = read_gene2go(write_table(tmp_path / "go.tsv", terms))
        assert go_similarity(gene2go, ["A", "B", "none"]).tolist() == [[1, 0.25, 0], [0.25, 1, 0], [0, 0, 0]]


class TestAnnotation:
    def test_formats_are_the_same(self, gene2go, annotation, tmp_path):
        table = read_gene2go(gene2go)
        text = open(gene2go).read()
        (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(text.encode()))
        (tmp_path / "bare.tsv").write_text("!a comment\n" + text.partition("\n")[2] + "P1\tGO:1\n" * 2)
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(annotation))
        (tmp_path / "old.pkl").write_bytes(pickle.dumps(annotation, protocol=2))
        for name in ("a.tsv.gz", "a.pkl", "old.pkl"):
            pd.testing.assert_frame_equal(read_gene2go(tmp_path / name), table)
        assert len(read_gene2go(tmp_path / "bare.tsv")) == len(table) + 1

    @pytest.mark.parametrize("name", ["absent.tsv", None])
    def test_missing_file(self, module, name):
        with pytest.raises(PerturbenchError, match=rf"'{name}' is not there. GEARS needs a GO annotation: .*pkl"):
            build_model(GEARS, module.context, {"gene2go": name})._build_graphs(module)

    def test_default_is_a_place_in_the_project(self, load_config, project):
        hparams = load_config(model="gears")["parameters"]["hparams"]
        assert hparams["gene2go"] == f"{project.as_posix()}/{Gears.__init__.__defaults__[0]}"

    @pytest.mark.parametrize("text", ["", "gene,go\nP1,GO:1\n", "P1\n", "P1\tbiological process\n", "\x00\x01\tGO"])
    def test_table_of_something_else(self, tmp_path, text):
        (tmp_path / "go.tsv").write_text(text)
        with pytest.raises(PerturbenchError, match=r"go.tsv'.*GEARS needs a GO annotation"):
            read_gene2go(tmp_path / "go.tsv")

    @pytest.mark.parametrize("value", [print, [1, 2], {"P1": 3}, np.arange(3)])
    def test_pickle_of_something_else(self, tmp_path, value):
        (tmp_path / "go.pkl").write_bytes(pickle.dumps(value))
        with pytest.raises(PerturbenchError, match=r"go.pkl' cannot be read.*GEARS needs a GO annotation"):
            read_gene2go(tmp_path / "go.pkl")

    def test_drugs_are_refused(self, module, tmp_path):
        with pytest.raises(PerturbenchError, match=r"none of the 6 perturbations is a gene of .*: P1, P2.*drugs"):
            train(module, write_table(tmp_path / "go.tsv", {"TP53": {"GO:1"}}))

    def test_perturbations_without_terms_are_named(self, module, annotation, tmp_path, caplog):
        some = {gene: terms for gene, terms in annotation.items() if gene not in ("P2", "P5")}
        with caplog.at_level(logging.WARNING):
            checkpoint = train(module, write_table(tmp_path / "go.tsv", some))
        assert "2 of 6 perturbations have no GO term and are related to no other gene: P2, P5" in caplog.text
        model = load_model(checkpoint)
        edges, weights = model.network.G_sim, model.network.G_sim_weight
        lone = model.nodes.index("P2")
        touching = (edges == lone).any(dim=0) & (weights > 0)
        assert edges[:, touching].tolist() == [[lone], [lone]]
