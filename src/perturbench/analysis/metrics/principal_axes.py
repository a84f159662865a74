"""Principal axes of the reference's cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from scipy.linalg import eigh

if TYPE_CHECKING:
    from perturbench.analysis.profiles import Reference


#: Largest number of principal components, as in the evaluation of the paper's code.
N_COMPONENTS = 100
#: With more genes than this, an iterative solver finds the axes: the covariance matrix would be too large.
_COVARIANCE_GENES = 3000


@dataclass(frozen=True)
class Axes:
    """Principal axes of the reference.

    Attributes
    ----------
    centre
        Mean expression of the cells, ``(n_genes,)``.
    components
        Axes as rows, ``(n_components, n_genes)``, the largest variance first.
    """

    centre: np.ndarray
    components: np.ndarray

    def project(self, cells: Any) -> np.ndarray:
        """Project cells ``(n_cells, n_genes)`` onto the axes, ``(n_cells, n_components)``."""
        # Projecting the centre apart leaves sparse cells sparse.
        return np.asarray(cells @ self.components.T) - self.centre @ self.components.T


def principal_axes(reference: Reference) -> Axes:
    """Return the principal axes of all cells of the reference, at most 100; later calls reuse them."""
    return reference.cached("principal axes", lambda: _principal_axes(reference))


def _principal_axes(reference: Reference) -> Axes:
    cells = reference.require_cells("a principal component")
    n_cells, n_genes = int((cells.codes >= 0).sum()), len(reference.genes)
    n = min(N_COMPONENTS, n_cells - 1, n_genes)
    if n < 1:  # a single cell has no variance, hence no axis
        return Axes(reference.gene_means, np.zeros((1, n_genes)))
    if n_genes <= _COVARIANCE_GENES:
        # Summed block by block: neither the dense cells nor a second copy of them are ever in memory.
        covariance = np.zeros((n_genes, n_genes))
        for codes, block in cells.blocks():
            used = block[codes >= 0]
            centred = (used.toarray() if sp.issparse(used) else used) - reference.gene_means.astype(np.float32)
            covariance += centred.T @ centred
        _, vectors = eigh(covariance, subset_by_index=[n_genes - n, n_genes - 1])
        return Axes(reference.gene_means, np.ascontiguousarray(vectors[:, ::-1].T))
    from sklearn.decomposition import PCA

    x, _ = cells.take(np.arange(len(reference.pairs) + len(reference.states)))
    fitted = PCA(min(n, min(x.shape) - 1), svd_solver="arpack", random_state=0).fit(x.astype(np.float64))
    return Axes(fitted.mean_, fitted.components_)
