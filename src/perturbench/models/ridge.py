"""A linear model of pseudobulk effects in the space of gene embeddings."""

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
    """``Y ~ G W P^T + b`` of Ahlmann-Eltze et al. 2025 (doi:10.1038/s41592-025-02772-6), added to the control.

    ``Y`` are the training effects, genes x perturbations, ``G`` the genes' scores in a PCA of them, ``b`` the mean
    response of the state. A perturbation's embedding is the row of ``G`` of the gene it targets, and the sum of its
    singles' for a combination; where no perturbation is a measured gene, as for drugs, it is one-hot.

    Parameters
    ----------
    context
        Names of the training data.
    n_components
        Of the gene embedding.
    penalty
        Ridge penalty on both sides of ``W``.
    """

    gene_embedding: torch.Tensor
    coefficients: torch.Tensor
    shift: torch.Tensor

    def __init__(self, context: Context, n_components: int = 10, penalty: float = 0.1) -> None:
        super().__init__(context)
        self.n_components, self.penalty = n_components, penalty

    def fit_pseudobulk(self, pseudobulk: Pseudobulk) -> None:
        """Solve for W; only ``W P^T`` of the single perturbations is stored."""
        effects, shift = pseudobulk.effects, pseudobulk.mean_response(self.states)
        y = np.array(list(effects.values())).T
        baseline = pseudobulk.mean_response([state for state, _ in effects]).T
        genes = PCA(min(self.n_components, *y.shape), svd_solver="full").fit_transform(y)
        singles = self._embed_singles(genes)
        perturbations = multi_hot([name for _, name in effects], self.training_record) @ singles  # type: ignore[arg-type]
        left = np.linalg.solve(_penalised(genes, self.penalty), genes.T @ (y - baseline))
        weights = np.linalg.solve(_penalised(perturbations, self.penalty), (left @ perturbations).T).T
        self.learn(gene_embedding=genes, coefficients=weights @ singles.T, shift=shift)

    def effect(self, batch: Batch) -> torch.Tensor:
        """Return the mean response of the state plus what the model says of the perturbation."""
        return self.shift[self.state_codes(batch)] + batch.perturbations @ self.coefficients.T @ self.gene_embedding.T

    def _embed_singles(self, genes: np.ndarray) -> np.ndarray:
        """Return the embedding of each single perturbation, ``(n_perturbations, n_features)``."""
        names = self.training_record["perturbation_uniques"]
        row = {gene: position for position, gene in enumerate(self.training_record["gene_names"])}
        measured = [position for position, name in enumerate(names) if name in row]
        if not measured:
            return np.eye(len(names))
        embedded = np.zeros((len(names), genes.shape[1]))
        embedded[measured] = genes[[row[names[position]] for position in measured]]
        return embedded


def _penalised(x: np.ndarray, penalty: float) -> np.ndarray:
    return x.T @ x + penalty * np.eye(x.shape[1])
