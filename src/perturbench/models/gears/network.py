"""The network of GEARS, from its package; importing this needs the extra ``gears``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from gears.model import GEARS_Model

if TYPE_CHECKING:
    from collections.abc import Iterable

Graph = tuple[torch.Tensor, torch.Tensor]
_GRAPHS = ("G_coexpress", "G_coexpress_weight", "G_sim", "G_sim_weight")


class GearsNetwork(GEARS_Model):
    """``GEARS_Model`` of the package ``cell-gears``, with a forward pass for a whole batch at once.

    Layers, parameters and their initial values are the package's. So is the result for a cell that is alone in its
    batch. In larger batches the package applies the co-expression graph to the first cell only, and what it predicts
    for a cell depends on that cell's place; here every cell is treated alike, as the paper has it (Roohani et al.,
    Nature Biotechnology 42:927, 2024).

    Parameters
    ----------
    n_genes, n_nodes
        Nodes of the co-expression graph, and of the GO graph.
    perturbed
        Node of each single perturbation in the GO graph, ``(n_perturbations,)``.
    n_gene_edges, n_go_edges
        Sizes of the graphs, whose edges are buffers.
    hidden_size, num_go_gnn_layers, num_gene_gnn_layers
        As in the package.
    """

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
                "decoder_hidden_size": None,  # the package reads it and uses it nowhere
                "uncertainty": False,
                "no_perturb": False,
                "G_coexpress": torch.zeros(2, n_gene_edges, dtype=torch.long),
                "G_coexpress_weight": torch.zeros(n_gene_edges),
                "G_go": torch.zeros(2, n_go_edges, dtype=torch.long),
                "G_go_weight": torch.zeros(n_go_edges),
                "device": "cpu",
            }
        )
        for unused in (self.pert_w, self.bn_pert_base_trans):  # the package has them and uses them nowhere
            unused.requires_grad_(False)
        for name in _GRAPHS:
            graph = getattr(self, name)
            delattr(self, name)
            self.register_buffer(name, graph)
        self.register_buffer("perturbed", perturbed, persistent=False)

    def set_graphs(self, coexpression: Graph, go: Graph) -> None:
        """Store the graphs, each as edges ``(2, n_edges)`` and their weights ``(n_edges,)``."""
        for name, values in zip(_GRAPHS, (*coexpression, *go), strict=True):
            getattr(self, name).copy_(values)

    def forward(self, cells: torch.Tensor, perturbations: torch.Tensor) -> torch.Tensor:
        """Return the cells with the effects of their perturbations added, ``(n_cells, n_genes)``.

        Parameters
        ----------
        cells
            Where they start from, ``(n_cells, n_genes)``.
        perturbations
            Multi-hot, ``(n_cells, n_perturbations)``.
        """
        if self.training and len(cells) == 1:  # batch normalisation needs two rows
            return self(cells.repeat(2, 1), perturbations.repeat(2, 1))[:1]
        hidden = self._genes() + self._shifts(perturbations)[:, None]
        hidden = self.transform(self.bn_pert_base(hidden.flatten(0, 1)))
        hidden = self.recovery_w(hidden).unflatten(0, cells.shape)
        effect = torch.einsum("cgh,gh->cg", hidden, self.indv_w1.squeeze(-1)) + self.indv_b1.squeeze(-1)
        own, of_others = self.indv_w2[0, :, 0], self.indv_w2[0, :, 1:]
        return cells + effect * own + self.cross_gene_state(effect) @ of_others.T + self.indv_b2

    def _genes(self) -> torch.Tensor:
        """Return the embeddings of the genes, the same in every cell, ``(n_genes, hidden_size)``."""
        genes = torch.arange(self.num_genes, device=self.perturbed.device)
        embedding = self.emb_trans(self.bn_emb(self.gene_emb(genes)))
        position = _convolve(self.layers_emb_pos, self.emb_pos(genes), self.G_coexpress, self.G_coexpress_weight)
        return self.emb_trans_v2(embedding + 0.2 * position)

    def _shifts(self, perturbations: torch.Tensor) -> torch.Tensor:
        """Return what each cell's perturbations add to its genes, ``(n_cells, hidden_size)``; 0 for controls."""
        nodes = self.pert_emb(torch.arange(self.num_perts, device=self.perturbed.device))
        nodes = _convolve(self.sim_layers, nodes, self.G_sim, self.G_sim_weight)
        shifts = perturbations @ nodes[self.perturbed]
        cells = perturbations.any(dim=1).nonzero().squeeze(1)
        if len(cells) == 0:
            return shifts
        # As the package: only perturbed cells are normalised, a lone one twice.
        fused = self.pert_fuse(shifts[cells.repeat(2) if len(cells) == 1 else cells])[: len(cells)]
        return torch.zeros_like(shifts).index_copy(0, cells, fused.to(shifts.dtype))


def _convolve(
    layers: Iterable[torch.nn.Module], nodes: torch.Tensor, edges: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return the nodes after graph convolutions with a ReLU between them, ``(n_nodes, hidden_size)``."""
    for position, layer in enumerate(layers):
        nodes = layer(nodes if position == 0 else nodes.relu(), edges, weights)
    return nodes
