"""GEARS: the network of its public package, trained from the same batches as every other model."""

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
#: Jaccard index above which genes are connected in the GO graph; the package has the same fixed value.
_GO_THRESHOLD = 0.1


class Gears(PerturbationModel):
    """Predict effects with graph networks over gene co-expression and GO similarity (GEARS).

    The network comes from the package ``cell-gears``, which the extra ``gears`` installs (Roohani et al., Nature
    Biotechnology 42:927, 2024). Graphs, loss, optimizer, learning rates and gradient clipping are written here after
    the package's code, so that GEARS is trained on the same batches as every other model; ``docs/gears.md`` lists the
    differences. GEARS does not use covariates.

    Parameters
    ----------
    context
        Names of the training data.
    gene2go
        Path of the GO annotation, see :func:`perturbench.models.gears.graphs.read_gene2go`. Only training reads it.
    hidden_size
        Width of the embeddings of genes and perturbations.
    num_go_gnn_layers, num_gene_gnn_layers
        Number of convolutions over the GO graph and over the co-expression graph.
    num_similar_genes_go_graph, num_similar_genes_co_express_graph
        Number of edges to each node of the GO graph and of the co-expression graph.
    co_express_threshold_graph
        Absolute Pearson correlation above which genes are connected in the co-expression graph.
    direction_lambda
        Weight of the loss term for changes that are predicted in the wrong direction.
    lr, wd
        Learning rate and weight decay of the Adam optimizer.

    Raises
    ------
    PerturbenchError
        If the package ``cell-gears`` is not installed.
    """

    #: Multi-hot code of each training condition, controls included, ``(n_conditions, n_perturbations)``.
    conditions: torch.Tensor
    #: Whether each condition expresses each gene, ``(n_conditions + 1, n_genes)``; the last row is for all others.
    expressed: torch.Tensor
    #: Mean expression of the control cells, ``(n_genes,)``.
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
        # Only the loss uses these, so they are not part of the checkpoint.
        self.register_buffer("conditions", torch.zeros(0, self.n_perturbations), persistent=False)
        self.register_buffer("expressed", torch.ones(1, self.n_genes, dtype=torch.bool), persistent=False)
        self.register_buffer("control_mean", torch.zeros(self.n_genes), persistent=False)

    def setup(self, stage: str) -> None:
        """Compute the graphs and the constants of the loss from the training cells, before training starts."""
        super().setup(stage)
        if stage == "fit":
            self._prepare_loss(self.trainer.datamodule)  # type: ignore[attr-defined]
            self._build_graphs(self.trainer.datamodule)  # type: ignore[attr-defined]

    def predict(self, batch: Batch) -> torch.Tensor:
        """Return the control cells plus the effects of their perturbations, ``(n_cells, n_genes)``."""
        return self.network(batch.matched_controls(), batch.perturbations)

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the loss of GEARS: the fourth power of the error, plus a penalty on wrong directions of change.

        The loss of a condition is the mean over its cells and over the genes that it expresses in training; the result
        is the mean over the conditions of the batch, a scalar.
        """
        observed, perturbed = batch.observed(), batch.perturbations.any(dim=1, keepdim=True)
        # As in the package, the network gets control cells themselves as input, not the controls matched to them.
        predicted = self.network(torch.where(perturbed, batch.matched_controls(), observed), batch.perturbations)
        codes, condition, n_cells = torch.unique(batch.perturbations, dim=0, return_inverse=True, return_counts=True)
        expressed = self._expressed_genes(codes)[condition]
        direction_error = torch.sign(observed - self.control_mean) - torch.sign(predicted - self.control_mean)
        # The fourth power puts the weight on the genes with large errors, which are those that respond.
        error = (predicted - observed) ** 4 + self.direction_lambda * direction_error**2
        cell_losses = (error * expressed).sum(dim=1) / expressed.sum(dim=1).clamp(min=1)
        return (cell_losses / n_cells[condition]).sum() / len(codes)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam without a scheduler, because each epoch sets its learning rate."""
        return torch.optim.Adam(self.parameters(), lr=self.lr, weight_decay=self.wd)

    def on_train_epoch_start(self) -> None:
        """Halve the learning rate after each epoch, as the package does.

        It is computed from the number of the epoch, so that a resumed training has the same learning rates.
        """
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.lr * 0.5**self.current_epoch

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip each element of the gradients to the trainer's value, or to 1 as the package does."""
        torch.nn.utils.clip_grad_value_(self.parameters(), gradient_clip_val or 1.0)

    def _expressed_genes(self, codes: torch.Tensor) -> torch.Tensor:
        """Return whether the loss counts each gene, ``(n_codes, n_genes)``, given multi-hot codes of conditions.

        All genes count for conditions that the training cells do not have.
        """
        # Two multi-hot codes are equal if they share as many ones as each of them has.
        n_ones = self.conditions.sum(dim=1)
        same = (codes @ self.conditions.T == n_ones) & (codes.sum(dim=1, keepdim=True) == n_ones)
        row_of_code = torch.cat([same, ~same.any(dim=1, keepdim=True)], dim=1)
        return self.expressed[row_of_code.int().argmax(dim=1)]

    def _prepare_loss(self, datamodule: PerturbationDataModule) -> None:
        """Store the training conditions, the genes that each of them expresses, and the mean of the control cells."""
        groups, rows = datamodule.groups, datamodule.rows["train"]
        present, codes = np.unique(groups.condition_codes[rows], return_inverse=True)
        group_of_cell = np.full(len(groups.condition_codes), -1)  # cells that are not for training are in no group
        group_of_cell[rows] = codes
        means = group_means(datamodule.adata, group_of_cell, len(present))
        names = [groups.conditions[code] for code in present]
        control = names.index(str(groups.keys.control))
        expressed = np.vstack([means != 0, np.ones(self.n_genes, dtype=bool)])
        expressed[control] = True  # as in the package, all genes count for control cells
        self.conditions = torch.from_numpy(multi_hot(names, datamodule.context))
        self.expressed = torch.from_numpy(expressed)
        self.control_mean = torch.from_numpy(means[control].astype(np.float32))

    def _build_graphs(self, datamodule: PerturbationDataModule) -> None:
        """Compute both graphs from the training cells and the GO annotation.

        As in the package, co-expression is measured over control cells and cells with a single perturbation.
        """
        gene2go = read_gene2go(self.gene2go)
        self._check_annotation(gene2go)
        self.training_record["gene2go_sha256"] = fingerprint_file(self.gene2go)
        groups, rows = datamodule.groups, datamodule.rows["train"]
        not_combined = np.array([len(groups.keys.singles(name)) < 2 for name in groups.conditions])
        rows = rows[not_combined[groups.condition_codes[rows]]]
        self.network.set_graphs(
            strongest_edges(coexpression(datamodule.cells, rows), self.k_coexpression, self.coexpression_threshold),
            strongest_edges(go_similarity(gene2go, self.nodes), self.k_go, _GO_THRESHOLD),
        )

    def _check_annotation(self, gene2go: pd.DataFrame) -> None:
        """Warn about perturbations without GO terms, and raise if no perturbation has any."""
        perturbations = self.training_record["perturbation_uniques"]
        without = sorted(set(perturbations) - set(gene2go["gene"]))
        if len(without) == len(perturbations):
            raise PerturbenchError(
                f"gears relates perturbed genes by their GO terms, but none of the {len(without)} perturbations is a "
                f"gene of '{self.gene2go}': {listing(without)}. Choose another model for drugs; for genes, set gene2go "
                "to an annotation of their species that has the same kind of gene names."
            )
        if without:
            _log.warning(
                "%d of %d perturbations have no GO term, so gears cannot relate them to other genes: %s",
                len(without),
                len(perturbations),
                listing(without),
            )


def _network_class() -> type[GearsNetwork]:
    """Import the network, and undo the side effects of importing its package.

    The package seeds torch and silences all warnings, and one of its dependencies changes torch's number of threads.
    """
    n_threads = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            from perturbench.models.gears.network import GearsNetwork
    except ImportError as error:
        raise PerturbenchError(
            "the model gears needs the packages cell-gears and torch_geometric; install them with "
            f'pip install "perturbench[gears]" ({error}).'
        ) from error
    finally:
        torch.set_num_threads(n_threads)
    return GearsNetwork
