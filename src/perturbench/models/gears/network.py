"""The network of GEARS, from the package cell-gears; importing this module needs the extra ``gears``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from gears.model import GEARS_Model

if TYPE_CHECKING:
    from collections.abc import Iterable

Graph = tuple[torch.Tensor, torch.Tensor]
_GRAPHS = ("G_coexpress", "G_coexpress_weight", "G_sim", "G_sim_weight")


class GearsNetwork(GEARS_Model):
    """``GEARS_Model`` of the package ``cell-gears``, with a forward pass that treats all cells of a batch alike.

    Layers, parameters and their initial values are those of the package. For a cell that is alone in its batch the
    result is the package's, too. In a larger batch the package applies the co-expression graph to the first cell only,
    so its prediction for a cell depends on the cell's position in the batch. This class applies the graph to every
    cell, as the paper describes (Roohani et al., Nature Biotechnology 42:927, 2024).

    Parameters
    ----------
    n_genes, n_nodes
        Number of nodes of the co-expression graph and of the GO graph.
    perturbed
        Position of each single perturbation among the nodes of the GO graph, ``(n_perturbations,)``.
    n_gene_edges, n_go_edges
        Number of edges of the co-expression graph and of the GO graph.
    hidden_size, num_go_gnn_layers, num_gene_gnn_layers
        Width of the embeddings, and number of convolutions over the GO graph and over the co-expression graph.
    """

    #: Position of each single perturbation among the nodes of the GO graph, ``(n_perturbations,)``.
    perturbed: torch.Tensor

    def __init__(
        self,
        n_genes: int,
        n_nodes: int,
        perturbed: torch.Tensor,
        n_gene_edges: int,
        n_go_edges: int,
        hidden_size: int,
        num_go_gnn_layers: int,
        num_gene_gnn_layers: int,
    ) -> None:
        super().__init__(
            {
                "num_genes": n_genes,
                "num_perts": n_nodes,
                "hidden_size": hidden_size,
                "num_go_gnn_layers": num_go_gnn_layers,
                "num_gene_gnn_layers": num_gene_gnn_layers,
                "decoder_hidden_size": None,  # the package reads this value but does not use it
                "uncertainty": False,
                "no_perturb": False,
                "G_coexpress": torch.zeros(2, n_gene_edges, dtype=torch.long),
                "G_coexpress_weight": torch.zeros(n_gene_edges),
                "G_go": torch.zeros(2, n_go_edges, dtype=torch.long),
                "G_go_weight": torch.zeros(n_go_edges),
                "device": "cpu",
            }
        )
        for unused in (self.pert_w, self.bn_pert_base_trans):  # the package's forward pass does not use these layers
            unused.requires_grad_(False)
        # As buffers, graphs are stored in the checkpoint and move to the device with the model.
        for name in _GRAPHS:
            graph = getattr(self, name)
            delattr(self, name)
            self.register_buffer(name, graph)
        self.register_buffer("perturbed", perturbed, persistent=False)

    def set_graphs(self, coexpression: Graph, go: Graph) -> None:
        """Store the co-expression and the GO graph, each as edges ``(2, n_edges)`` and weights ``(n_edges,)``."""
        for name, values in zip(_GRAPHS, (*coexpression, *go), strict=True):
            getattr(self, name).copy_(values)

    def forward(self, cells: torch.Tensor, perturbations: torch.Tensor) -> torch.Tensor:
        """Return the cells with the effects of their perturbations added, ``(n_cells, n_genes)``.

        Parameters
        ----------
        cells
            Expression to which the effects are added, ``(n_cells, n_genes)``.
        perturbations
            Multi-hot code of each cell's perturbations, ``(n_cells, n_perturbations)``.
        """
        if self.training and len(cells) == 1:  # batch normalisation needs at least two rows
            return self(cells.repeat(2, 1), perturbations.repeat(2, 1))[:1]
        hidden = self._gene_embeddings() + self._perturbation_shifts(perturbations)[:, None]
        hidden = self.transform(self.bn_pert_base(hidden.flatten(0, 1)))
        hidden = self.recovery_w(hidden).unflatten(0, cells.shape)
        effect = torch.einsum("cgh,gh->cg", hidden, self.indv_w1.squeeze(-1)) + self.indv_b1.squeeze(-1)
        # The last layer of each gene weighs its own effect (first column) and a summary of the effects on all genes.
        effect_weight, summary_weights = self.indv_w2[0, :, 0], self.indv_w2[0, :, 1:]
        return cells + effect * effect_weight + self.cross_gene_state(effect) @ summary_weights.T + self.indv_b2

    def _gene_embeddings(self) -> torch.Tensor:
        """Return the embeddings of the genes, which are the same in every cell, ``(n_genes, hidden_size)``."""
        genes = torch.arange(self.num_genes, device=self.perturbed.device)
        embedding = self.emb_trans(self.bn_emb(self.gene_emb(genes)))
        position = _convolve(self.layers_emb_pos, self.emb_pos(genes), self.G_coexpress, self.G_coexpress_weight)
        return self.emb_trans_v2(embedding + 0.2 * position)  # the package has the weight 0.2, too

    def _perturbation_shifts(self, perturbations: torch.Tensor) -> torch.Tensor:
        """Return the shift of the gene embeddings in each cell, ``(n_cells, hidden_size)``; 0 for control cells."""
        nodes = self.pert_emb(torch.arange(self.num_perts, device=self.perturbed.device))
        nodes = _convolve(self.sim_layers, nodes, self.G_sim, self.G_sim_weight)
        shifts = perturbations @ nodes[self.perturbed]
        perturbed = perturbations.any(dim=1).nonzero().squeeze(1)
        if len(perturbed) == 0:
            return shifts
        # As in the package, batch normalisation sees perturbed cells only, and a single one twice: it needs two rows.
        rows = perturbed.repeat(2) if len(perturbed) == 1 else perturbed
        fused = self.pert_fuse(shifts[rows])[: len(perturbed)]
        return torch.zeros_like(shifts).index_copy(0, perturbed, fused.to(shifts.dtype))


def _convolve(
    layers: Iterable[torch.nn.Module], nodes: torch.Tensor, edges: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Apply graph convolutions with a ReLU between them to the nodes, ``(n_nodes, hidden_size)``."""
    for position, layer in enumerate(layers):
        nodes = layer(nodes if position == 0 else nodes.relu(), edges, weights)
    return nodes
