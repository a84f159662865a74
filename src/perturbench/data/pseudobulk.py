"""Pseudobulks of training cells and the effects they show, which every baseline is made of."""

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
    """Mean expression of training cells.

    Attributes
    ----------
    pairs, states
        The perturbed (state, perturbation) pairs, and all states.
    means
        Of each pair, ``(n_pairs, n_genes)`` float64.
    control_means
        Of the controls of each state, ``(n_states, n_genes)`` float64; NaN for a state without.
    """

    pairs: list[Pair]
    states: list[State]
    means: np.ndarray
    control_means: np.ndarray

    @classmethod
    def of(cls, adata: ad.AnnData, groups: Groups, rows: np.ndarray | None = None) -> Pseudobulk:
        """Compute the means of cells (only of ``rows``, where given) in one pass."""
        chosen = np.ones(len(groups.state_codes), dtype=bool)
        if rows is not None:
            chosen[:] = False
            chosen[rows] = True
        pairs = groups.pairs(chosen)
        codes = np.where(groups.is_control, len(pairs) + groups.state_codes, groups.pair_codes(pairs))
        codes[~chosen] = -1
        means = group_means(adata, codes, len(pairs) + len(groups.states))
        return cls(pairs, list(groups.states), means[: len(pairs)], means[len(pairs) :])

    @cached_property
    def effects(self) -> dict[Pair, np.ndarray]:
        """Pseudobulk - control of each pair whose state has controls, ``(n_genes,)`` each, log1p CP10k."""
        controls = dict(zip(self.states, self.control_means, strict=True))
        effects = {pair: mean - controls[pair[0]] for pair, mean in zip(self.pairs, self.means, strict=True)}
        return {pair: effect for pair, effect in effects.items() if np.isfinite(effect).all()}

    def mean_response(self, states: Sequence[State]) -> np.ndarray:
        """Return the mean effect of the perturbations of each state, ``(n_states, n_genes)``.

        A state without one gets the mean over the states that have some.

        Raises
        ------
        PerturbenchError
            If no state has a perturbation and controls.
        """
        of_state: dict[State, list[np.ndarray]] = {}
        for (state, _), effect in self.effects.items():
            of_state.setdefault(state, []).append(effect)
        if not of_state:
            raise PerturbenchError("no state of the training cells has both perturbed and control cells; add some.")
        means = {state: np.mean(effects, axis=0) for state, effects in of_state.items()}
        overall = np.mean(list(means.values()), axis=0)
        return np.array([means.get(state, overall) for state in states])

    def over_states(self) -> dict[str, np.ndarray]:
        """Return the effect of each perturbation, mean over the states that have it, ``(n_genes,)`` each."""
        of_condition: dict[str, list[np.ndarray]] = {}
        for (_, condition), effect in self.effects.items():
            of_condition.setdefault(condition, []).append(effect)
        return {condition: np.mean(effects, axis=0) for condition, effects in of_condition.items()}
