"""Pseudobulks of training cells, and the effects of perturbations that the baselines are computed from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from perturbench.data.group_sums import group_means
from perturbench.errors import PerturbenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import anndata as ad

    from perturbench.data.groups import Groups, Pair, State


@dataclass(frozen=True)
class Pseudobulk:
    """Mean expression of each (state, perturbation) pair, and of the controls of each state.

    Attributes
    ----------
    pairs, states
        The (state, perturbation) pairs of perturbed cells, and all states.
    means
        Mean expression of each pair, ``(n_pairs, n_genes)`` float64.
    control_means
        Mean expression of the control cells of each state, ``(n_states, n_genes)`` float64; NaN for a state without
        control cells.
    """

    pairs: list[Pair]
    states: list[State]
    means: np.ndarray
    control_means: np.ndarray

    @classmethod
    def from_adata(cls, adata: ad.AnnData, groups: Groups, rows: np.ndarray | None = None) -> Pseudobulk:
        """Compute the means of all cells, or of the given ``rows`` only, in one pass."""
        selected = np.ones(len(groups.state_codes), dtype=bool)
        if rows is not None:
            selected[:] = False
            selected[rows] = True
        pairs = groups.pairs(selected)
        # The groups of the pairs come first and the controls of each state after them: one pass sums both.
        codes = np.where(groups.is_control, len(pairs) + groups.state_codes, groups.pair_codes(pairs))
        codes[~selected] = -1
        means = group_means(adata, codes, len(pairs) + len(groups.states))
        return cls(pairs, list(groups.states), means[: len(pairs)], means[len(pairs) :])

    @cached_property
    def effects(self) -> dict[Pair, np.ndarray]:
        """Pseudobulk minus control mean of each pair, ``(n_genes,)`` in log1p CP10k; only for states with controls."""
        controls = dict(zip(self.states, self.control_means, strict=True))
        effects = {pair: mean - controls[pair[0]] for pair, mean in zip(self.pairs, self.means, strict=True)}
        return {pair: effect for pair, effect in effects.items() if np.isfinite(effect).all()}

    def mean_response(self, states: Sequence[State]) -> np.ndarray:
        """Return the mean effect over all perturbations of each state, ``(n_states, n_genes)``.

        A state without perturbations gets the mean over the states that have some.

        Raises
        ------
        PerturbenchError
            If no state has both perturbed and control cells.
        """
        by_state: dict[State, list[np.ndarray]] = {}
        for (state, _), effect in self.effects.items():
            by_state.setdefault(state, []).append(effect)
        if not by_state:
            raise PerturbenchError("no state of the training cells has both perturbed and control cells; add them.")
        means = {state: np.mean(effects, axis=0) for state, effects in by_state.items()}
        overall = np.mean(list(means.values()), axis=0)
        return np.array([means.get(state, overall) for state in states])

    def mean_effects(self) -> dict[str, np.ndarray]:
        """Return the effect of each perturbation, averaged over the states that have it, ``(n_genes,)`` each."""
        by_condition: dict[str, list[np.ndarray]] = {}
        for (_, condition), effect in self.effects.items():
            by_condition.setdefault(condition, []).append(effect)
        return {condition: np.mean(effects, axis=0) for condition, effects in by_condition.items()}
