"""The ridge baseline: a linear model of pseudobulk effects between gene and perturbation embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.decomposition import PCA

from perturbench.data.encoding import multi_hot
from perturbench.models.closed_form import ClosedFormModel

if TYPE_CHECKING:
    import torch

    from perturbench.data.encoding import Context
    from perturbench.data.pseudobulk import Pseudobulk
    from perturbench.data.types import Batch


class Ridge(ClosedFormModel):
    """Add the effects of the linear model ``Y ~ G W P^T + b`` to the control cell.

    ``Y`` are the training effects, ``(n_genes, n_pairs)``; ``G`` are the scores of the genes in a PCA of ``Y``,
    ``(n_genes, n_components)``; ``b`` is the mean response of the state. ``P`` are the embeddings of the perturbations:
    the row of ``G`` of the targeted gene for a single perturbation, and the sum over the singles for a combination. If
    no perturbation is a measured gene, as for drugs, the embedding of a single is one-hot. ``W`` is the ridge estimate
    ``(G^T G + penalty I)^-1 G^T (Y - b) P (P^T P + penalty I)^-1`` (Ahlmann-Eltze et al. 2025,
    doi:10.1038/s41592-025-02772-6).

    Parameters
    ----------
    context
        Names of the training data.
    n_components
        Number of principal components of the gene embedding.
    penalty
        Ridge penalty on both sides of ``W``.
    """

    #: ``G``, ``(n_genes, n_components)``.
    gene_embedding: torch.Tensor
    #: ``W P^T`` of the single perturbations, ``(n_components, n_perturbations)``.
    coefficients: torch.Tensor
    #: ``b``, the mean response of each state, ``(n_states, n_genes)``.
    shift: torch.Tensor

    def __init__(self, context: Context, n_components: int = 10, penalty: float = 0.1) -> None:
        super().__init__(context)
        self.n_components, self.penalty = n_components, penalty

    def fit_pseudobulk(self, pseudobulk: Pseudobulk) -> None:
        """Solve for ``W``, and store ``W P^T`` of the single perturbations, which is all that prediction needs."""
        effects, shift = pseudobulk.effects, pseudobulk.mean_response(self.states)
        y = np.array(list(effects.values())).T
        baseline = pseudobulk.mean_response([state for state, _ in effects]).T
        genes = PCA(min(self.n_components, *y.shape), svd_solver="full").fit_transform(y)
        singles = self._embed_singles(genes)
        # A multi-hot code times the singles' embeddings is the sum of the embeddings of its singles.
        perturbations = multi_hot([name for _, name in effects], self.training_record) @ singles  # type: ignore[arg-type]
        left = np.linalg.solve(_penalised_gram(genes, self.penalty), genes.T @ (y - baseline))
        # A right-hand inverse is a left-hand solve of the transpose, because the penalised Gram matrix is symmetric.
        weights = np.linalg.solve(_penalised_gram(perturbations, self.penalty), (left @ perturbations).T).T
        self.store_buffers(gene_embedding=genes, coefficients=weights @ singles.T, shift=shift)

    def effect(self, batch: Batch) -> torch.Tensor:
        """Return ``G W P^T + b``: the modelled effect plus the mean response of the state, ``(n_cells, n_genes)``."""
        return self.shift[self.state_codes(batch)] + batch.perturbations @ self.coefficients.T @ self.gene_embedding.T

    def _embed_singles(self, genes: np.ndarray) -> np.ndarray:
        """Return the embedding of each single perturbation, ``(n_perturbations, n_features)``.

        A perturbation without a measured gene is 0 if others have one; if none has, all embeddings are one-hot.
        """
        names = self.training_record["perturbation_uniques"]
        row = {gene: position for position, gene in enumerate(self.training_record["gene_names"])}
        measured = [position for position, name in enumerate(names) if name in row]
        if not measured:
            return np.eye(len(names))
        embedded = np.zeros((len(names), genes.shape[1]))
        embedded[measured] = genes[[row[names[position]] for position in measured]]
        return embedded


def _penalised_gram(x: np.ndarray, penalty: float) -> np.ndarray:
    """Return ``X^T X + penalty I``, the matrix that ridge regression inverts."""
    return x.T @ x + penalty * np.eye(x.shape[1])
