"""Highly variable and differentially expressed genes, from sums over blocks of cells: no matrix is held whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from perturbench.data.group_sums import GroupSums

if TYPE_CHECKING:
    from perturbench.data.groups import Groups


class HighlyVariable:
    """Genes that vary more between cells than others of the same mean, as scanpy's ``seurat_v3`` with batches.

    A gene's variance is standardised by what a loess of all genes expects at its mean, counts beyond the square root of
    the number of cells clipped (Stuart et al. 2019, doi 10.1016/j.cell.2019.05.031). Ranks are medians over batches.

    Parameters
    ----------
    sums
        Sums and squares of the counts per batch, of all genes.
    genes
        Which of them are compared.
    batches
        Batch of each cell, ``(n_cells,)``; -1 for cells that genes are not selected on.

    Raises
    ------
    ValueError
        If the loess cannot be fitted: too few genes vary in a batch.
    """

    def __init__(self, sums: GroupSums, genes: np.ndarray, batches: np.ndarray) -> None:
        self._batches, self._n_cells = batches, sums.counts[:, None]
        moments = np.array([sums.moments(batch) for batch in range(len(sums.counts))])[..., genes]
        self._means = moments[:, 0]
        self._std = np.stack([_expected_std(means, variances) for means, variances in moments])
        self._limits = self._std * np.sqrt(self._n_cells) + self._means
        self._clipped = GroupSums(*self._means.shape, squares=True)

    def add(self, counts: sp.csr_matrix, rows: slice) -> None:
        """Add the counts of some rows, ``(n_rows, n_genes)``."""
        batches = self._batches[rows]
        limits = self._limits[np.repeat(batches, np.diff(counts.indptr)), counts.indices]
        clipped = np.minimum(counts.data, limits)
        self._clipped.add(sp.csr_matrix((clipped, counts.indices, counts.indptr), counts.shape), batches)

    def chosen(self, n_top_genes: int) -> np.ndarray:
        """Return which genes are among the most variable, ``(n_genes,)``."""
        sums, squares = self._clipped.sums, self._clipped.squares
        deviations = self._n_cells * self._means**2 + squares - 2 * sums * self._means
        variances = 1 / ((self._n_cells - 1) * self._std**2) * deviations
        ranks = np.argsort(np.argsort(-variances, axis=1), axis=1).astype(float)
        ranks[ranks >= n_top_genes] = np.nan
        table = pd.DataFrame({"rank": pd.DataFrame(ranks).median(), "few": np.isnan(ranks).sum(axis=0)})
        mask = np.zeros(ranks.shape[1], dtype=bool)
        mask[table.sort_values(["rank", "few"]).index[:n_top_genes]] = True
        return mask


class DifferentiallyExpressed:
    """Genes that differ most between a perturbation and the controls of its state, by |score| of Welch's t-test.

    Parameters
    ----------
    groups
        State and perturbation of each cell.
    fit
        Whether genes are selected on a cell, ``(n_cells,)``.
    n_genes
        Number of genes.
    """

    def __init__(self, groups: Groups, fit: np.ndarray, n_genes: int) -> None:
        pairs = groups.state_codes * len(groups.conditions) + groups.condition_codes
        found, n_cells = np.unique(pairs[fit], return_counts=True)
        states, conditions = np.divmod(found[n_cells > 1], len(groups.conditions))
        is_control = conditions == (-1 if groups.control_code is None else groups.control_code)
        compared = np.isin(states, states[is_control]) & np.isin(states, states[~is_control])
        self._states, self._is_control = states[compared], is_control[compared]
        positions = pd.Index(found[n_cells > 1][compared]).get_indexer(pairs)
        self._codes = np.where(fit, positions, -1)
        self._sums = GroupSums(len(self._states), n_genes, squares=True)

    def add(self, expression: sp.csr_matrix, rows: slice) -> None:
        """Add the log-normalised expression of some rows, ``(n_rows, n_genes)``."""
        self._sums.add(expression, self._codes[rows])

    def chosen(self, n_de_genes: int) -> np.ndarray:
        """Return which genes are among the ``n_de_genes`` of any perturbation and state, ``(n_genes,)``."""
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
            # Genes without any variance, as in scanpy.
            scores[np.isnan(scores)] = 0
            mask[np.argpartition(scores, -n_top)[-n_top:]] = True
        return mask


def _expected_std(means: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Return the standard deviation that genes of these means have, ``(n_genes,)``; 1 for constant genes."""
    from skmisc.loess import loess

    varies = variances > 0
    expected = np.zeros(len(means))
    model = loess(np.log10(means[varies]), np.log10(variances[varies]), span=0.3, degree=2)
    model.fit()
    expected[varies] = model.outputs.fitted_values
    return np.sqrt(10**expected)
