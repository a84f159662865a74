"""Principal components as cell embeddings, fitted on training cells only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from perturbench.data.sparse import row_slices
from perturbench.errors import PerturbenchError

if TYPE_CHECKING:
    import scipy.sparse as sp

#: Cells that are projected at a time.
_ROWS = 65536


def pca_embeddings(
    expression: sp.csr_matrix, fit_rows: np.ndarray, n_components: int = 50, seed: int = 0
) -> np.ndarray:
    """Return the principal components of each cell.

    The components are those of the cells in ``fit_rows``. All other cells are projected on them, so that an embedding
    of held-out cells tells nothing about them to the model that is trained. The sign of a component is the one that
    makes its largest loading positive. ``sklearn.decomposition.PCA`` computes the components without a dense matrix;
    the memory that it needs is that of a copy of the fitted cells.

    Parameters
    ----------
    expression
        Log-normalised expression, CSR, ``(n_cells, n_genes)``.
    fit_rows
        Positions of the training cells, ``(n_rows,)``.
    n_components
        Number of principal components.
    seed
        Seed of the start vector of the solver; other seeds change the result by rounding errors only.

    Returns
    -------
    ``(n_cells, n_components)`` float32.

    Raises
    ------
    PerturbenchError
        If there are too few training cells or genes for so many components.
    """
    from sklearn.decomposition import PCA

    largest = min(len(fit_rows), expression.shape[1]) - 1
    if n_components > largest:
        raise PerturbenchError(
            f"embedding.n_components is {n_components}; {len(fit_rows)} training cells and {expression.shape[1]} genes "
            f"have at most {largest}."
        )
    pca = PCA(n_components, svd_solver="arpack", random_state=seed).fit(expression[fit_rows])
    embedding = np.empty((expression.shape[0], n_components), dtype=np.float32)
    for rows in row_slices(len(embedding), _ROWS):
        embedding[rows] = pca.transform(expression[rows])
    return embedding
