"""GEARS, through its public package."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch

from perturbench.data.encoding import multi_hot
from perturbench.data.group_sums import group_means
from perturbench.errors import PerturbenchError, listing
from perturbench.models.base import PerturbationModel
from perturbench.models.gears.graphs import coexpression, go_similarity, n_edges, read_gene2go, strongest_edges
from perturbench.provenance import fingerprint_file

if TYPE_CHECKING:
    import pandas as pd
    from lightning.pytorch.utilities.types import OptimizerLRScheduler

    from perturbench.data.encoding import Context
    from perturbench.data.loading.datamodule import PerturbationDataModule
    from perturbench.data.types import Batch
    from perturbench.models.gears.network import GearsNetwork

_log = logging.getLogger(__name__)
_GO_THRESHOLD = 0.1  # of the package, fixed there


class Gears(PerturbationModel):
    """GEARS (Roohani et al., Nature Biotechnology 42:927, 2024): graph networks over co-expression and GO similarity.

    The network is that of the package ``cell-gears`` (the extra ``gears``). Graphs, loss, optimizer, schedule and
    clipping of gradients follow its code and are computed here, from the same batches as every model's; see
    ``docs/gears.md`` for what differs. Covariates are not used: GEARS has none.

    Parameters
    ----------
    context
        Names of the training data.
    gene2go
        File with the GO annotation, see :func:`perturbench.models.gears.graphs.read_gene2go`; read in training only.
    hidden_size, num_go_gnn_layers, num_gene_gnn_layers
        Of the network.
    num_similar_genes_go_graph, num_similar_genes_co_express_graph
        Edges to each node of the graphs.
    co_express_threshold_graph
        Absolute correlation above which genes are co-expressed.
    direction_lambda
        Weight of the loss of the wrong direction of change.
    lr, wd
        Of Adam.

    Raises
    ------
    PerturbenchError
        If the package is not installed.
    """

    conditions: torch.Tensor
    expressed: torch.Tensor
    control_mean: torch.Tensor

    def __init__(
        self,
        context: Context,
        gene2go: str = "data/01_raw/gene2go/gene2go_human.tsv.gz",
        hidden_size: int = 64,
        num_go_gnn_layers: int = 1,
        num_gene_gnn_layers: int = 1,
        num_similar_genes_go_graph: int = 20,
        num_similar_genes_co_express_graph: int = 20,
        co_express_threshold_graph: float = 0.4,
        direction_lambda: float = 0.1,
        lr: float = 1e-3,
        wd: float = 5e-4,
    ) -> None:
        super().__init__(context, lr=lr, wd=wd)
        self.gene2go, self.direction_lambda = gene2go, direction_lambda
        self.k_go, self.k_coexpression = num_similar_genes_go_graph, num_similar_genes_co_express_graph
        self.coexpression_threshold = co_express_threshold_graph
        self.nodes = sorted({*context["gene_names"], *context["perturbation_uniques"]})
        self.network = _network_class()(
            n_genes=self.n_genes,
            n_nodes=len(self.nodes),
            perturbed=torch.tensor([self.nodes.index(name) for name in context["perturbation_uniques"]]),
            n_gene_edges=n_edges(self.n_genes, self.k_coexpression),
            n_go_edges=n_edges(len(self.nodes), self.k_go),
            hidden_size=hidden_size,
            num_go_gnn_layers=num_go_gnn_layers,
            num_gene_gnn_layers=num_gene_gnn_layers,
        )
        # What the loss knows of the training cells; prediction does not need it.
        self.register_buffer("conditions", torch.zeros(0, self.n_perturbations), persistent=False)
        self.register_buffer("expressed", torch.ones(1, self.n_genes, dtype=torch.bool), persistent=False)
        self.register_buffer("control_mean", torch.zeros(self.n_genes), persistent=False)

    def setup(self, stage: str) -> None:
        """Compute the graphs and what the loss needs from the training cells."""
        super().setup(stage)
        if stage == "fit":
            self._prepare_loss(self.trainer.datamodule)  # type: ignore[attr-defined]
            self._build_graphs(self.trainer.datamodule)  # type: ignore[attr-defined]

    def predict(self, batch: Batch) -> torch.Tensor:
        """Return the controls with the effects of the perturbations added."""
        return self.network(batch.matched_controls(), batch.perturbations)

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return GEARS' loss: the fourth power of the error, and the wrong directions of change.

        It is the mean over perturbations of the mean over their cells and the genes they express in training. Control
        cells start from themselves, as in the package.
        """
        observed, perturbed = batch.observed(), batch.perturbations.any(dim=1, keepdim=True)
        predicted = self.network(torch.where(perturbed, batch.matched_controls(), observed), batch.perturbations)
        rows, row_of, counts = torch.unique(batch.perturbations, dim=0, return_inverse=True, return_counts=True)
        expressed = self._expressed_under(rows)[row_of]
        turned = torch.sign(observed - self.control_mean) - torch.sign(predicted - self.control_mean)
        error = (predicted - observed) ** 4 + self.direction_lambda * turned**2
        of_cells = (error * expressed).sum(dim=1) / expressed.sum(dim=1).clamp(min=1)
        return (of_cells / counts[row_of]).sum() / len(rows)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.lr, weight_decay=self.wd)

    def on_train_epoch_start(self) -> None:
        """Halve the learning rate after each epoch, as the package does; by its number, so that resuming keeps it."""
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.lr * 0.5**self.current_epoch

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip each gradient to 1, as the package does, or to the trainer's value."""
        torch.nn.utils.clip_grad_value_(self.parameters(), gradient_clip_val or 1.0)

    def _expressed_under(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the genes that count under distinct perturbations, ``(n_rows, n_genes)``; all if not of training."""
        size = self.conditions.sum(dim=1)
        same = (rows @ self.conditions.T == size) & (rows.sum(dim=1, keepdim=True) == size)
        known = torch.cat([same, ~same.any(dim=1, keepdim=True)], dim=1)
        return self.expressed[known.int().argmax(dim=1)]

    def _prepare_loss(self, datamodule: PerturbationDataModule) -> None:
        """Store the training conditions, the genes that each expresses, and the mean of the controls."""
        groups, rows = datamodule.groups, datamodule.rows["train"]
        present, codes = np.unique(groups.condition_codes[rows], return_inverse=True)
        of_cells = np.full(len(groups.condition_codes), -1)
        of_cells[rows] = codes
        means = group_means(datamodule.adata, of_cells, len(present))
        names = [groups.conditions[code] for code in present]
        control = names.index(str(groups.keys.control))
        expressed = np.vstack([means != 0, np.ones(self.n_genes, dtype=bool)])
        expressed[control] = True
        self.conditions = torch.from_numpy(multi_hot(names, datamodule.context))
        self.expressed = torch.from_numpy(expressed)
        self.control_mean = torch.from_numpy(means[control].astype(np.float32))

    def _build_graphs(self, datamodule: PerturbationDataModule) -> None:
        """Compute both graphs; co-expression is, as in the package, that of controls and single perturbations."""
        gene2go = read_gene2go(self.gene2go)
        self._require_annotated(gene2go)
        self.training_record["gene2go_sha256"] = fingerprint_file(self.gene2go)
        groups, rows = datamodule.groups, datamodule.rows["train"]
        not_combined = np.array([len(groups.keys.singles(name)) < 2 for name in groups.conditions])
        used = rows[not_combined[groups.condition_codes[rows]]]
        self.network.set_graphs(
            strongest_edges(coexpression(datamodule.cells, used), self.k_coexpression, self.coexpression_threshold),
            strongest_edges(go_similarity(gene2go, self.nodes), self.k_go, _GO_THRESHOLD),
        )

    def _require_annotated(self, gene2go: pd.DataFrame) -> None:
        """Warn of perturbations without GO terms, and raise if none has any."""
        perturbations = self.training_record["perturbation_uniques"]
        without = sorted(set(perturbations) - set(gene2go["gene"]))
        if len(without) == len(perturbations):
            raise PerturbenchError(
                f"gears relates perturbed genes by their GO terms, but none of the {len(without)} perturbations is a "
                f"gene of '{self.gene2go}': {listing(without)}. For drugs take another model; for genes take the "
                "annotation of their species, with the same kind of gene names."
            )
        if without:
            _log.warning(
                "%d of %d perturbations have no GO term and are related to no other gene: %s",
                len(without),
                len(perturbations),
                listing(without),
            )


def _network_class() -> type[GearsNetwork]:
    """Import the network; what its package does to the process when imported is undone.

    It seeds torch and silences every warning, and a library of its changes the number of torch's threads.
    """
    n_threads = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            from perturbench.models.gears.network import GearsNetwork
    except ImportError as error:
        raise PerturbenchError(
            'the model gears needs the packages cell-gears and torch_geometric: pip install "perturbench[gears]" '
            f"({error})"
        ) from error
    finally:
        torch.set_num_threads(n_threads)
    return GearsNetwork
