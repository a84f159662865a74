"""What of the data takes part in a split: states, and how many of their perturbations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perturbench.data.groups import state_name
from perturbench.errors import PerturbenchError, listing

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from perturbench.data.groups import Groups, Keys, Pair, State
    from perturbench.data.splits.rules import Selectors, SplitRules


@dataclass(frozen=True)
class Selection:
    """What takes part in a split.

    Attributes
    ----------
    keys
        How perturbations are written.
    states, pairs
        The states that it is drawn on, and their (state, perturbation) pairs; both sorted, no controls.
    train_states, train_pairs
        More of both, which are in training whatever is drawn.
    """

    keys: Keys
    states: tuple[State, ...]
    pairs: list[Pair]
    train_states: tuple[State, ...]
    train_pairs: list[Pair]

    def by_state(self) -> dict[State, list[Pair]]:
        """Return the pairs that the split is drawn on, by state."""
        return pairs_by_state(self.pairs)


def pairs_by_state(pairs: Sequence[Pair]) -> dict[State, list[Pair]]:
    """Return sorted pairs by state; states are sorted, too."""
    grouped: dict[State, list[Pair]] = {}
    for pair in sorted(pairs):
        grouped.setdefault(pair[0], []).append(pair)
    return grouped


def select(groups: Groups, rules: SplitRules, rng: np.random.Generator) -> Selection:
    """Choose the states and perturbations that take part.

    Parameters
    ----------
    groups
        Codes of all cells.
    rules
        ``states``, ``train_states``, ``downsample_fraction``, ``perturbations_per_state``.
    rng
        For what is left out. A larger fraction or count keeps what a smaller one keeps, for the same seed.

    Raises
    ------
    PerturbenchError
        If a state is named that is not there or twice, or more perturbations are asked for than there are.
    """
    keys = groups.keys
    states = find_states(rules.states, "state to use", keys, groups.states) if rules.states else groups.states
    if rules.train_states == "others":
        train_states = tuple(state for state in groups.states if state not in states)
    else:
        train_states = find_states(rules.train_states, "training state", keys, groups.states)
    if shared := [state for state in train_states if state in states]:
        raise PerturbenchError(
            f"{listing(map(state_name, shared))} is in splitter.train_states and among the states that the split is "
            "drawn on; list in splitter.states the states to draw on, without it."
        )
    everything = groups.pairs()
    pairs = [pair for pair in everything if pair[0] in states]
    dropped = _draw_dropped(pairs, keys, rules.downsample_fraction, rng)
    pairs = [pair for pair in pairs if dropped.isdisjoint(keys.singles(pair[1]))]
    pairs = _keep_per_state(pairs, states, rules, rng)
    train_pairs = [pair for pair in everything if pair[0] in train_states and dropped.isdisjoint(keys.singles(pair[1]))]
    return Selection(keys, states, pairs, train_states, train_pairs)


def find_states(selectors: Selectors, what: str, keys: Keys, states: Sequence[State]) -> tuple[State, ...]:
    """Return the states that selectors name, sorted.

    Parameters
    ----------
    selectors
        For each state the value of every covariate.
    what
        They are, for messages.
    keys
        Names of the covariates.
    states
        Those there are.

    Raises
    ------
    PerturbenchError
        If one names other covariates, or matches nothing.
    """
    found = set()
    for selector in selectors:
        if set(selector) != set(keys.covariates):
            raise PerturbenchError(f"{what} {dict(selector)} must name the covariates {listing(keys.covariates)}.")
        state = tuple(str(selector[key]) for key in keys.covariates)
        if state not in states:
            raise PerturbenchError(
                f"{what} {state_name(state)} matches no cell; states are: {listing(map(state_name, states), 40)}."
            )
        found.add(state)
    return tuple(sorted(found))


def _draw_dropped(pairs: list[Pair], keys: Keys, fraction: float, rng: np.random.Generator) -> set[str]:
    """Draw the single perturbations that are left out."""
    if fraction >= 1:
        return set()
    singles = sorted({single for _, condition in pairs for single in keys.singles(condition)})
    n_kept = round(fraction * len(singles))
    if not n_kept:
        raise PerturbenchError(
            f"splitter.downsample_fraction={fraction} keeps none of {len(singles)} perturbations; raise it."
        )
    return {singles[position] for position in rng.permutation(len(singles))[n_kept:]}


def _keep_per_state(
    pairs: list[Pair], states: Sequence[State], rules: SplitRules, rng: np.random.Generator
) -> list[Pair]:
    """Draw as many perturbations of each state as are asked for."""
    wanted = rules.perturbations_per_state
    names = [", ".join(state) for state in states]
    if strange := sorted(set(wanted) - set(names)):
        raise PerturbenchError(
            f"splitter.perturbations_per_state names states that are not there: {listing(strange)}; "
            f"states are: {listing(names, 40)}."
        )
    own_of = pairs_by_state(pairs)
    kept: list[Pair] = []
    for name, state in zip(names, states, strict=True):
        own = own_of.get(state, [])
        n_wanted = wanted.get(name, len(own))
        if n_wanted > len(own):
            raise PerturbenchError(
                f"splitter.perturbations_per_state asks for {n_wanted} perturbations of state {state_name(state)}, "
                f"which has {len(own)}."
            )
        kept += [own[position] for position in rng.permutation(len(own))[:n_wanted]] if name in wanted else own
    return sorted(kept)
