"""The network of GEARS: the same as its package, where the package is unambiguous."""

from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from tests.models.gears.small_gears import build, observed_batch

from perturbench.training.checkpoints import load_model


@pytest.fixture(scope="module")
def packaged(module, annotation, checkpoint, tmp_path_factory):
    """GEARS as the code of the package builds it from the training cells, with the trained weights.

    The package has annotated genes as nodes, and we have all genes, so rows of the embedding are matched by name.
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
    groups = [edges_to.nlargest(4 + 1, ["importance"]) for _, edges_to in frame.groupby("target")]
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
    node_of_perturbation = [nodes.index(name) for name in module.context["perturbation_uniques"]]

    def forward(start, perturbations):
        index = [[node_of_perturbation[j] for j in np.flatnonzero(row)] or [-1] for row in perturbations.numpy()]
        batch = torch.arange(len(start)).repeat_interleave(start.shape[1])
        return network(SimpleNamespace(x=start.reshape(-1, 1), pert_idx=index, batch=batch))

    forward.network = network
    return forward


def test_prediction_is_the_packages(checkpoint, module, packaged):
    """Graphs, weights and forward pass together; the package gets one cell at a time, see GearsNetwork."""
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
    """In training, with the co-expression graph repeated for each cell, because the package does not do that."""
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


def test_prediction_for_a_cell_does_not_depend_on_its_batch(checkpoint, module):
    model, dataset = load_model(checkpoint), module.counterfactuals()
    with torch.no_grad():
        together = model.predict(dataset[:30])
        alone = torch.cat([model.predict(dataset[[i]]) for i in range(30)])
    assert alone.numpy() == pytest.approx(together.numpy(), rel=1e-4, abs=1e-5)


def test_prediction_uses_both_graphs(checkpoint, module):
    model, batch = load_model(checkpoint), module.counterfactuals()[:20]
    with torch.no_grad():
        before = model.predict(batch)
        for name in ("G_coexpress_weight", "G_sim_weight"):
            model = load_model(checkpoint)
            getattr(model.network, name).zero_()
            assert not torch.allclose(model.predict(batch), before, atol=1e-4), name


@pytest.mark.parametrize("layers", [{"num_go_gnn_layers": 3}, {"num_gene_gnn_layers": 3}])
def test_more_layers_of_a_graph_reach_further(module, gene2go, layers):
    batch = module.counterfactuals()[:20]
    with torch.no_grad():
        one, more = (build(module, gene2go, **hparams).eval().predict(batch) for hparams in ({}, layers))
    assert not torch.allclose(one, more)


def test_batches_with_no_or_one_perturbed_cell(module, gene2go):
    model, batch = build(module, gene2go), observed_batch(module, 200)
    model._prepare_loss(module)
    order = torch.argsort(batch.perturbations.any(dim=1).int(), stable=True)
    n_controls = int((~batch.perturbations.any(dim=1)).sum())
    for rows in (order[:n_controls], order[: n_controls + 1]):
        part = batch._replace(
            gene_expression=batch.gene_expression[rows],
            perturbations=batch.perturbations[rows],
            controls=batch.controls[rows],
        )
        loss = model.loss(part)
        loss.backward()
        assert torch.isfinite(loss)
