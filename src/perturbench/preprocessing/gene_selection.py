"""Selection of highly variable and differentially expressed genes, from sums over blocks of cells.

scanpy selects the same genes, but needs the whole matrix in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from perturbench.data.group_sums import GroupSums

if TYPE_CHECKING:
    from perturbench.data.groups import Groups


class HighlyVariable:
    """Select the most variable genes, as scanpy does with ``flavor="seurat_v3"`` and a ``batch_key``.

    A loess fit over all genes gives the variance expected at the mean of a gene. Counts are standardised with it,
    clipped at the square root of the number of cells, and genes are ranked by the variance that remains (Stuart et al.
    2019, doi 10.1016/j.cell.2019.05.031). The rank of a gene is its median over batches.

    Parameters
    ----------
    sums
        Sums of counts and of squared counts per batch, over all genes.
    genes
        Mask of the genes to choose from, ``(n_all_genes,)``.
    batches
        Batch of each cell, ``(n_cells,)``; -1 for cells that must not influence the selection.

    Raises
    ------
    ValueError
        If the loess cannot be fitted because too few genes vary in a batch.
    """

    def __init__(self, sums: GroupSums, genes: np.ndarray, batches: np.ndarray) -> None:
        self._batches, self._n_cells = batches, sums.counts[:, None]
        moments = np.array([sums.moments(batch) for batch in range(len(sums.counts))])[..., genes]
        self._means = moments[:, 0]
        self._std = np.stack([_expected_std(means, variances) for means, variances in moments])
        self._limits = self._std * np.sqrt(self._n_cells) + self._means
        self._clipped = GroupSums(*self._means.shape, squares=True)

    def add(self, counts: sp.csr_matrix, rows: slice) -> None:
        """Add a block of counts, ``(n_rows, n_genes)``, of the cells in ``rows``."""
        batches = self._batches[rows]
        # Zeros are never clipped, so that it is enough to look at the stored values.
        limits = self._limits[np.repeat(batches, np.diff(counts.indptr)), counts.indices]
        clipped = np.minimum(counts.data, limits)
        self._clipped.add(sp.csr_matrix((clipped, counts.indices, counts.indptr), counts.shape), batches)

    def select(self, n_top_genes: int) -> np.ndarray:
        """Return a mask of the ``n_top_genes`` most variable genes, ``(n_genes,)``."""
        sums, squares = self._clipped.sums, self._clipped.squares
        # The sum of squared deviations of the clipped counts from the mean of the unclipped ones, as in scanpy.
        deviations = self._n_cells * self._means**2 + squares - 2 * sums * self._means
        variances = 1 / ((self._n_cells - 1) * self._std**2) * deviations
        ranks = np.argsort(np.argsort(-variances, axis=1), axis=1).astype(float)
        ranks[ranks >= n_top_genes] = np.nan
        # Genes of equal median rank are ordered by the number of batches in which they are not among the top genes.
        table = pd.DataFrame({"rank": pd.DataFrame(ranks).median(), "n_missed": np.isnan(ranks).sum(axis=0)})
        mask = np.zeros(ranks.shape[1], dtype=bool)
        mask[table.sort_values(["rank", "n_missed"]).index[:n_top_genes]] = True
        return mask


class DifferentiallyExpressed:
    """Select the genes that differ most between a perturbation and the controls of its state, by Welch's t-test.

    Parameters
    ----------
    groups
        States and perturbations of all cells.
    fit
        Mask of the cells that genes are selected on, ``(n_cells,)``.
    n_genes
        Number of genes.
    """

    def __init__(self, groups: Groups, fit: np.ndarray, n_genes: int) -> None:
        pairs = groups.state_codes * len(groups.conditions) + groups.condition_codes
        # Pairs of one cell have no variance to test with, and a state is tested only if it has both kinds of cells.
        found, n_cells = np.unique(pairs[fit], return_counts=True)
        states, conditions = np.divmod(found[n_cells > 1], len(groups.conditions))
        is_control = conditions == (-1 if groups.control_code is None else groups.control_code)
        compared = np.isin(states, states[is_control]) & np.isin(states, states[~is_control])
        self._states, self._is_control = states[compared], is_control[compared]
        positions = pd.Index(found[n_cells > 1][compared]).get_indexer(pairs)
        self._codes = np.where(fit, positions, -1)
        self._sums = GroupSums(len(self._states), n_genes, squares=True)

    def add(self, expression: sp.csr_matrix, rows: slice) -> None:
        """Add a block of log-normalised expression, ``(n_rows, n_genes)``, of the cells in ``rows``."""
        self._sums.add(expression, self._codes[rows])

    def select(self, n_de_genes: int) -> np.ndarray:
        """Return a mask of the genes with the ``n_de_genes`` largest absolute score of any pair, ``(n_genes,)``."""
        n_genes, n_cells = self._sums.sums.shape[1], self._sums.counts
        n_top = min(n_de_genes, n_genes)
        mask = np.zeros(n_genes, dtype=bool)
        controls = dict(zip(self._states[self._is_control], np.flatnonzero(self._is_control), strict=True))
        for tested in np.flatnonzero(~self._is_control):
            control = controls[self._states[tested]]
            (mean, variance), (control_mean, control_variance) = map(self._sums.moments, (tested, control))
            with np.errstate(invalid="ignore", divide="ignore"):
                error = np.sqrt(variance / n_cells[tested] + control_variance / n_cells[control])
                scores = np.abs(mean - control_mean) / error
            # Genes without variance in both groups get no score; scanpy sets it to 0, too.
            scores[np.isnan(scores)] = 0
            mask[np.argpartition(scores, -n_top)[-n_top:]] = True
        return mask


def _expected_std(means: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Return the standard deviation expected at the mean of each gene, ``(n_genes,)``; 1 for constant genes."""
    from skmisc.loess import loess

    varies = variances > 0
    expected = np.zeros(len(means))
    model = loess(np.log10(means[varies]), np.log10(variances[varies]), span=0.3, degree=2)
    model.fit()
    expected[varies] = model.outputs.fitted_values
    return np.sqrt(10**expected)
