"""Selection of the states and perturbations that a split uses."""

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
    """The states and pairs that a split uses; controls are not among the pairs.

    Attributes
    ----------
    keys
        Notation of perturbations.
    states, pairs
        States that the split is drawn on, and their (state, perturbation) pairs, both sorted.
    train_states, train_pairs
        Further states and pairs that always are in training.
    """

    keys: Keys
    states: tuple[State, ...]
    pairs: list[Pair]
    train_states: tuple[State, ...]
    train_pairs: list[Pair]

    def by_state(self) -> dict[State, list[Pair]]:
        """Return the pairs that the split is drawn on, grouped by state."""
        return pairs_by_state(self.pairs)


def pairs_by_state(pairs: Sequence[Pair]) -> dict[State, list[Pair]]:
    """Group pairs by state; states and pairs are sorted."""
    grouped: dict[State, list[Pair]] = {}
    for pair in sorted(pairs):
        grouped.setdefault(pair[0], []).append(pair)
    return grouped


def select(groups: Groups, rules: SplitRules, rng: np.random.Generator) -> Selection:
    """Select the states and perturbations that a split uses.

    Parameters
    ----------
    groups
        States and perturbations of all cells.
    rules
        Rules of the split; ``states``, ``train_states``, ``downsample_fraction`` and ``perturbations_per_state`` are
        used.
    rng
        Random number generator that draws the perturbations to drop. With the same seed, a larger fraction or count
        keeps all perturbations that a smaller one keeps.

    Raises
    ------
    PerturbenchError
        If a named state is not in the data, is named both in ``states`` and ``train_states``, or has fewer
        perturbations than requested.
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
            "drawn on; set splitter.states to the other states."
        )
    all_pairs = groups.pairs()
    pairs = [pair for pair in all_pairs if pair[0] in states]
    dropped = _draw_dropped(pairs, keys, rules.downsample_fraction, rng)
    pairs = [pair for pair in pairs if dropped.isdisjoint(keys.singles(pair[1]))]
    pairs = _limit_per_state(pairs, states, rules, rng)
    train_pairs = [pair for pair in all_pairs if pair[0] in train_states and dropped.isdisjoint(keys.singles(pair[1]))]
    return Selection(keys, states, pairs, train_states, train_pairs)


def find_states(selectors: Selectors, what: str, keys: Keys, states: Sequence[State]) -> tuple[State, ...]:
    """Return the states that selectors name, sorted.

    Parameters
    ----------
    selectors
        Value of every covariate, for each selected state.
    what
        Purpose of the states, for error messages.
    keys
        Names of the covariates.
    states
        States to choose from.

    Raises
    ------
    PerturbenchError
        If a selector does not name exactly the covariates, or matches no state.
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
    """Draw the single perturbations to leave out of the split."""
    if fraction >= 1:
        return set()
    singles = sorted({single for _, condition in pairs for single in keys.singles(condition)})
    n_kept = round(fraction * len(singles))
    if not n_kept:
        raise PerturbenchError(
            f"splitter.downsample_fraction={fraction} keeps none of {len(singles)} single perturbations; raise it."
        )
    return {singles[position] for position in rng.permutation(len(singles))[n_kept:]}


def _limit_per_state(
    pairs: list[Pair], states: Sequence[State], rules: SplitRules, rng: np.random.Generator
) -> list[Pair]:
    """Draw the requested number of perturbations of each state; keep all if no number is requested."""
    counts = rules.perturbations_per_state
    names = [", ".join(state) for state in states]
    if unknown := sorted(set(counts) - set(names)):
        raise PerturbenchError(
            f"splitter.perturbations_per_state names states that the split does not have: {listing(unknown)}; "
            f"states are: {listing(names, 40)}."
        )
    by_state = pairs_by_state(pairs)
    selected: list[Pair] = []
    for name, state in zip(names, states, strict=True):
        candidates = by_state.get(state, [])
        if name not in counts:
            selected += candidates
            continue
        if counts[name] > len(candidates):
            raise PerturbenchError(
                f"splitter.perturbations_per_state asks for {counts[name]} perturbations of state {state_name(state)}, "
                f"which has {len(candidates)}; lower the number."
            )
        selected += [candidates[position] for position in rng.permutation(len(candidates))[: counts[name]]]
    return sorted(selected)
