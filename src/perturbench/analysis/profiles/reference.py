"""The observed side of an evaluation."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from perturbench.analysis.profiles.base import Profiles
from perturbench.analysis.profiles.cells import Cells, sum_with_squares
from perturbench.analysis.score_table import SCORE_COLUMNS
from perturbench.data.group_sums import GroupSums
from perturbench.data.groups import Groups
from perturbench.errors import PerturbenchError, listing

if TYPE_CHECKING:
    import anndata as ad

    from perturbench.data.groups import Keys


class Reference(Profiles):
    """The observed side: the cells of every pair to evaluate, and the control cells of their states.

    Parameters
    ----------
    adata
        Log-normalised cells, ``(n_cells, n_genes)``, of the perturbations to evaluate and the controls of their states.
    keys
        Columns of ``obs`` that hold the perturbation and the covariates.

    Attributes
    ----------
    pairs, states, state_of_pair
        (state, perturbation) pairs, sorted; their distinct states; index of each pair's state, ``(n_pairs,)``.
    genes
        Gene names.
    control_means
        Mean expression of the controls of each pair's state, ``(n_pairs, n_genes)``.

    Raises
    ------
    PerturbenchError
        If there is no perturbed cell, a state has no control, or values are not finite.
    """

    def __init__(self, adata: ad.AnnData, keys: Keys) -> None:
        super().__init__()
        if taken := sorted(set(keys.covariates) & set(SCORE_COLUMNS)):
            raise PerturbenchError(
                f"covariates {listing(taken)} have the names of columns in the score table ({listing(SCORE_COLUMNS)}); "
                "rename them in obs."
            )
        if adata.var_names.has_duplicates:
            duplicated = adata.var_names[adata.var_names.duplicated()]
            raise PerturbenchError(
                f"the reference has gene names that occur more than once: {listing(duplicated)}; make them unique."
            )
        groups = Groups.from_obs(adata.obs, keys)
        self.name, self.keys, self.genes = "observed", keys, adata.var_names
        self.pairs = groups.pairs()
        if not self.pairs:
            raise PerturbenchError(
                "the reference has no perturbed cells; add the observed cells of the perturbations to evaluate."
            )
        self.states = sorted({state for state, _ in self.pairs})
        n_pairs = len(self.pairs)
        index = np.array([self.states.index(state) if state in self.states else -1 for state in groups.states])
        state_codes = index[groups.state_codes]
        # One pass over the cells sums both kinds of group: pairs come first, then the controls of each state.
        codes = np.where(groups.is_control & (state_codes >= 0), n_pairs + state_codes, groups.pair_codes(self.pairs))
        self.cells = Cells(adata.X, codes)
        self.sums = GroupSums(n_pairs + len(self.states), adata.n_vars)
        for block_codes, block in self.cells.blocks():
            self.sums.add(block, block_codes)
        self._check()
        self.state_of_pair = np.array([self.states.index(state) for state, _ in self.pairs])
        self.means, self.counts = self.sums.means[:n_pairs], self.sums.counts[:n_pairs]
        self.control_means = self.sums.means[n_pairs:][self.state_of_pair]

    def _check(self) -> None:
        assert self.sums is not None
        counts = self.sums.counts[len(self.pairs) :]
        if without_controls := [state for state, count in zip(self.states, counts, strict=True) if count == 0]:
            raise PerturbenchError(
                f"the reference has no control cells ('{self.keys.control}') in: {listing(without_controls)}; add "
                "them: observed and predicted log fold changes are both taken against the observed controls."
            )
        if not np.isfinite(self.sums.sums).all():
            genes = self.genes[~np.isfinite(self.sums.sums).all(axis=0)]
            raise PerturbenchError(f"the reference has NaN or infinite values in {len(genes)} genes: {listing(genes)}.")

    @cached_property
    def moments(self) -> GroupSums:
        """Sums and sums of squares of the pairs' cells and, after them, of each state's controls."""
        return sum_with_squares(self.require_cells("a variance"), len(self.pairs) + len(self.states), len(self.genes))

    @cached_property
    def gene_means(self) -> np.ndarray:
        """Mean of each gene over all cells of the reference, ``(n_genes,)``."""
        assert self.sums is not None
        return self.sums.sums.sum(axis=0) / self.sums.counts.sum()

    @cached_property
    def gene_sds(self) -> np.ndarray:
        """Standard deviation of each gene over all cells of the reference, ``(n_genes,)``; 1 for a constant gene."""
        n = self.moments.counts.sum()
        assert self.moments.squares is not None
        variance = (self.moments.squares.sum(axis=0) - n * self.gene_means**2) / max(n - 1, 1)
        # Rounding can leave a variance slightly below 0. A constant gene is divided by 1: its z-scores stay finite.
        sd = np.sqrt(np.maximum(variance, 0.0))
        return np.where(sd > 0, sd, 1.0)

    def pairs_of_state(self, state: int) -> np.ndarray:
        """Return the indices of a state's pairs."""
        return np.flatnonzero(self.state_of_pair == state)

    def control_cells(self, state: int) -> Any:
        """Return the control cells of a state, ``(n, n_genes)`` sparse or dense."""
        return self.require_cells("a rank-sum test").take(np.array([len(self.pairs) + state]))[0]
