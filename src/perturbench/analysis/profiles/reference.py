"""The observed side of an evaluation."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from perturbench.analysis.profiles.base import Profiles
from perturbench.analysis.profiles.cells import Cells, moments_of
from perturbench.analysis.score_table import SCORE_COLUMNS
from perturbench.data.group_sums import GroupSums
from perturbench.data.groups import Groups
from perturbench.errors import PerturbenchError, listing

if TYPE_CHECKING:
    import anndata as ad

    from perturbench.data.groups import Keys


class Reference(Profiles):
    """What was observed: the perturbed groups, and the controls of their states.

    Parameters
    ----------
    adata
        Log-normalised cells, ``(n_cells, n_genes)``, of the perturbations to evaluate and controls of their states.
    keys
        The columns of its ``obs``.

    Attributes
    ----------
    pairs, states, state_of_pair
        The (state, perturbation) pairs, sorted; their states; the position of each pair's state, ``(n_pairs,)``.
    genes
        Names of the genes.
    control_means
        Mean of the controls of each pair's state, ``(n_pairs, n_genes)``.

    Raises
    ------
    PerturbenchError
        If there is no perturbed cell, a state has no control, or values are not finite.
    """

    def __init__(self, adata: ad.AnnData, keys: Keys) -> None:
        super().__init__()
        if taken := sorted(set(keys.covariates) & set(SCORE_COLUMNS)):
            raise PerturbenchError(
                f"covariates {listing(taken)} are named like columns of the scores ({listing(SCORE_COLUMNS)}); "
                "rename them in obs."
            )
        if adata.var_names.has_duplicates:
            doubled = adata.var_names[adata.var_names.duplicated()]
            raise PerturbenchError(f"the reference has gene names that occur more than once: {listing(doubled)}.")
        groups = Groups.from_obs(adata.obs, keys)
        self.name, self.keys, self.genes = "observed", keys, adata.var_names
        self.pairs = groups.pairs()
        if not self.pairs:
            raise PerturbenchError("the reference has no perturbed cells; nothing can be evaluated.")
        self.states = sorted({state for state, _ in self.pairs})
        n_pairs = len(self.pairs)
        own = np.array([self.states.index(s) if s in self.states else -1 for s in groups.states])[groups.state_codes]
        codes = np.where(groups.is_control & (own >= 0), n_pairs + own, groups.pair_codes(self.pairs))
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
        if bare := [state for state, count in zip(self.states, counts, strict=True) if count == 0]:
            raise PerturbenchError(
                f"the reference has no control cells ('{self.keys.control}') in: {listing(bare)}; add them, both sides "
                "of a log fold change use the observed controls."
            )
        if not np.isfinite(self.sums.sums).all():
            genes = self.genes[~np.isfinite(self.sums.sums).all(axis=0)]
            raise PerturbenchError(f"the reference has NaN or infinite values in {len(genes)} genes: {listing(genes)}.")

    @cached_property
    def moments(self) -> GroupSums:
        """Sums with squares of the pairs and, after them, of the states' controls."""
        return moments_of(self.require_cells("a variance"), len(self.pairs) + len(self.states), len(self.genes))

    @cached_property
    def gene_means(self) -> np.ndarray:
        """Mean of each gene over all reference cells, ``(n_genes,)``."""
        assert self.sums is not None
        return self.sums.sums.sum(axis=0) / self.sums.counts.sum()

    @cached_property
    def gene_sds(self) -> np.ndarray:
        """Standard deviation of each gene over all reference cells (n - 1), 1 where it is 0, ``(n_genes,)``."""
        n = self.moments.counts.sum()
        assert self.moments.squares is not None
        variance = (self.moments.squares.sum(axis=0) - n * self.gene_means**2) / max(n - 1, 1)
        sd = np.sqrt(np.maximum(variance, 0.0))
        return np.where(sd > 0, sd, 1.0)

    def pairs_of_state(self, state: int) -> np.ndarray:
        """Return the positions of a state's pairs."""
        return np.flatnonzero(self.state_of_pair == state)

    def control_cells(self, state: int) -> Any:
        """Return the control cells of a state, ``(n, n_genes)`` sparse or dense."""
        return self.require_cells("this metric").take(np.array([len(self.pairs) + state]))[0]
