"""The two records that flow from data to models."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from perturbench.errors import PerturbenchError

if TYPE_CHECKING:
    import numpy as np
    import torch


class Example(NamedTuple):
    """One cell, as a person reads it (appendix A.2 of the paper).

    Attributes
    ----------
    gene_expression
        Log-normalised expression, ``(n_genes,)``; ``None`` for a counterfactual, which nobody observed.
    perturbations
        Names of its single perturbations; empty for a control cell.
    covariates
        Value of each covariate.
    controls
        Expression of a control cell of the same state, ``(n_genes,)``, where the dataset matches controls.
    id
        Name of the cell; of the control cell for a counterfactual.
    gene_names
        Names of the genes, in the order of ``gene_expression``.
    embeddings
        Embedding of the cell, ``(n_embedding,)``; of the control cell for a counterfactual.
    """

    gene_expression: torch.Tensor | None
    perturbations: list[str]
    covariates: dict[str, str]
    controls: torch.Tensor | None = None
    id: str | None = None
    gene_names: list[str] | None = None
    embeddings: torch.Tensor | None = None


class Batch(NamedTuple):
    """Many cells, as a model reads them.

    Attributes
    ----------
    gene_expression
        ``(n_cells, n_genes)``; ``None`` for counterfactuals, so that no model can look at an answer.
    perturbations
        Multi-hot, ``(n_cells, n_perturbations)``; all zeros for control cells.
    covariates
        One-hot of each covariate, ``(n_cells, n_levels)``.
    controls
        Matched control cells, ``(n_cells, n_genes)``.
    ids
        Names of the cells, ``(n_cells,)``; of the control cells for counterfactuals. An array, because Lightning looks
        through every list of a batch, item by item, when it moves the batch to a device.
    gene_names
        Names of the genes, ``(n_genes,)``.
    embeddings
        ``(n_cells, n_embedding)``; of the control cells for counterfactuals.
    control_embeddings
        Embeddings of the matched control cells, ``(n_cells, n_embedding)``.
    groups
        For counterfactuals: position of each cell's (state, perturbation) pair among the dataset's pairs,
        ``(n_cells,)``.
    """

    gene_expression: torch.Tensor | None
    perturbations: torch.Tensor
    covariates: dict[str, torch.Tensor]
    controls: torch.Tensor | None = None
    ids: np.ndarray | None = None
    gene_names: np.ndarray | None = None
    embeddings: torch.Tensor | None = None
    control_embeddings: torch.Tensor | None = None
    groups: torch.Tensor | None = None

    def observed(self, use_embeddings: bool = False) -> torch.Tensor:
        """Return the observed expression ``(n_cells, n_genes)``, or the embeddings ``(n_cells, n_embedding)``.

        Raises
        ------
        PerturbenchError
            If it is a batch of counterfactuals, or has no embeddings.
        """
        if self.gene_expression is None:
            raise PerturbenchError(
                "a counterfactual batch has no observed expression; predict from batch.matched_controls()."
            )
        return _require(self.embeddings) if use_embeddings else self.gene_expression

    def matched_controls(self, use_embeddings: bool = False) -> torch.Tensor:
        """Return a control cell of the same state for each cell: expression or embeddings, as :meth:`observed`.

        Raises
        ------
        PerturbenchError
            If the dataset does not match controls, or has no embeddings.
        """
        if self.controls is None:
            raise PerturbenchError("the batch has no matched controls; use SingleCellPerturbationWithControls.")
        return _require(self.control_embeddings) if use_embeddings else self.controls


def _require(embeddings: torch.Tensor | None) -> torch.Tensor:
    if embeddings is None:
        raise PerturbenchError("the batch has no embeddings; load the data with an embedding_key.")
    return embeddings
