"""The two records that data sets give to models: one cell (`Example`) and an encoded batch (`Batch`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from perturbench.errors import PerturbenchError

if TYPE_CHECKING:
    import numpy as np
    import torch


class Example(NamedTuple):
    """One cell with readable names (appendix A.2 of the paper).

    Attributes
    ----------
    gene_expression
        Log-normalised expression, ``(n_genes,)``; ``None`` for a counterfactual, because it was not observed.
    perturbations
        Names of the single perturbations of the cell; empty for a control cell.
    covariates
        Name and value of each covariate.
    controls
        Expression of a control cell of the same state, ``(n_genes,)``; ``None`` if the dataset does not match controls.
    id
        Name of the cell; for a counterfactual, the name of its control cell.
    gene_names
        Names of the genes, in the order of ``gene_expression``.
    embeddings
        Embedding of the cell, ``(n_embedding,)``; for a counterfactual, the embedding of its control cell.
    """

    gene_expression: torch.Tensor | None
    perturbations: list[str]
    covariates: dict[str, str]
    controls: torch.Tensor | None = None
    id: str | None = None
    gene_names: list[str] | None = None
    embeddings: torch.Tensor | None = None


class Batch(NamedTuple):
    """Encoded cells, as a model reads them.

    Attributes
    ----------
    gene_expression
        Log-normalised expression, ``(n_cells, n_genes)``; ``None`` for counterfactuals, so that no model sees the
        answer.
    perturbations
        Multi-hot encoded perturbations, ``(n_cells, n_perturbations)``; all zeros for control cells.
    covariates
        One-hot encoded values of each covariate, ``(n_cells, n_values)``.
    controls
        Expression of the matched control cells, ``(n_cells, n_genes)``.
    ids
        Names of the cells, ``(n_cells,)``; for counterfactuals, of their control cells. An array and not a list,
        because Lightning visits every item of a list when it moves a batch to a device, which is slow.
    gene_names
        Names of the genes, ``(n_genes,)``.
    embeddings
        Embeddings of the cells, ``(n_cells, n_embedding)``; for counterfactuals, of their control cells.
    control_embeddings
        Embeddings of the matched control cells, ``(n_cells, n_embedding)``.
    groups
        For counterfactuals, the position of each cell's (state, perturbation) pair among the pairs of the dataset,
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
        """Return the observed expression, ``(n_cells, n_genes)``, or the embeddings, ``(n_cells, n_embedding)``.

        Raises
        ------
        PerturbenchError
            If the batch holds counterfactuals, or has no embeddings.
        """
        if self.gene_expression is None:
            raise PerturbenchError(
                "a counterfactual batch has no observed expression; predict from batch.matched_controls()."
            )
        return _require(self.embeddings) if use_embeddings else self.gene_expression

    def matched_controls(self, use_embeddings: bool = False) -> torch.Tensor:
        """Return the matched control cell of each cell: its expression, or its embedding if ``use_embeddings``.

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
