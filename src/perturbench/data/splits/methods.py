"""Split methods: each one chooses the (state, perturbation) pairs to hold out."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from perturbench.data.groups import state_name
from perturbench.data.splits.selecting import find_states, pairs_by_state
from perturbench.errors import PerturbenchError, listing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from perturbench.data.groups import Keys, Pair, State
    from perturbench.data.splits.rules import SplitRules
    from perturbench.data.splits.selecting import Selection


def _transfer(selection: Selection, rules: SplitRules, rng: np.random.Generator) -> dict[Pair, str]:
    """Hold each perturbation out of up to m states, and up to the fraction f of the perturbations of each state."""
    states_of: dict[str, list[State]] = {}
    for state, condition in selection.pairs:
        states_of.setdefault(condition, []).append(state)
    capacity = {state: rules.capacity(len(pairs)) for state, pairs in selection.by_state().items()}
    heldout = []
    for condition in rng.permutation(sorted(states_of)):
        n_allowed = len(states_of[condition]) - rules.min_train_covariates
        n_states = int(rng.integers(1, rules.max_heldout_covariates + 1))
        available = [state for state in states_of[condition] if capacity[state] > 0]
        for position in rng.permutation(len(available))[: max(0, min(n_states, n_allowed))]:
            capacity[available[position]] -= 1
            heldout.append((available[position], str(condition)))
    return _val_and_test(heldout, rules, rng)


def _combine(selection: Selection, rules: SplitRules, rng: np.random.Generator) -> dict[Pair, str]:
    """Hold out the fraction f of the combinations of each state; all single perturbations stay in training."""
    keys = selection.keys
    combinations = [pair for pair in selection.pairs if len(keys.singles(pair[1])) > 1]
    if not combinations:
        raise PerturbenchError(
            f"the combine split needs combinations of perturbations, joined by '{keys.delimiter}'; "
            f"there are none among {listing(dict.fromkeys(name for _, name in selection.pairs))}."
        )
    heldout = []
    for pairs in pairs_by_state(combinations).values():
        heldout += [pairs[position] for position in rng.permutation(len(pairs))[: rules.capacity(len(pairs))]]
    return _val_and_test(heldout, rules, rng)


def _combine_inverse(selection: Selection, rules: SplitRules, rng: np.random.Generator) -> dict[Pair, str]:
    """Hold out the fraction f of the single perturbations of each state that can be inferred from training.

    The effect of A can be inferred from A+B and B. Each held-out single A therefore keeps at least one double A+B in
    training, and the other single of that double, its partner B.
    """
    heldout: list[Pair] = []
    n_candidates = 0
    for state, pairs in selection.by_state().items():
        partners = partners_of([condition for _, condition in pairs], selection.keys)
        n_candidates += len(partners)
        heldout_singles: set[str] = set()
        for single in map(str, rng.permutation(sorted(partners))):
            if len(heldout_singles) == rules.capacity(len(partners)):
                break
            # Holding out this single takes a partner away from its partners. This single, and those of its partners
            # that are held out already, must each still have a partner in training.
            affected = (single, *(partners[single] & heldout_singles))
            if all(partners[name] - heldout_singles - {single} for name in affected):
                heldout_singles.add(single)
        heldout += [(state, single) for single in heldout_singles]
    if not n_candidates:
        raise PerturbenchError(
            "the combine_inverse split needs doubles whose single perturbations are in the same state, too; there "
            f"are none among {listing(dict.fromkeys(name for _, name in selection.pairs))}."
        )
    return _val_and_test(heldout, rules, rng)


def partners_of(conditions: Sequence[str], keys: Keys) -> dict[str, set[str]]:
    """Return the partners of each single perturbation: those it forms a double with.

    A double counts only if both of its single perturbations are among the conditions, too.
    """
    present = set(conditions)
    partners: dict[str, set[str]] = {}
    for condition in conditions:
        singles = keys.singles(condition)
        if len(singles) == 2 and present.issuperset(singles):
            for one, other in (singles, singles[::-1]):
                partners.setdefault(one, set()).add(other)
    return partners


def _manual(selection: Selection, rules: SplitRules, rng: np.random.Generator) -> dict[Pair, str]:
    """Hold out the fraction f of the perturbations of each given state.

    Single perturbations stay in training in at least ``min_train_covariates`` other states.
    """
    keys = selection.keys
    if not rules.heldout_states:
        raise PerturbenchError("the manual split needs splitter.heldout_states: a list of states, by covariate values.")
    states = find_states(rules.heldout_states, "held-out state", keys, selection.states)
    n_train_states = Counter(condition for _, condition in selection.pairs)
    by_state, heldout = selection.by_state(), []
    for state in (states[position] for position in rng.permutation(len(states))):
        pairs = by_state.get(state, [])
        candidates = [
            pair
            for pair in (pairs[position] for position in rng.permutation(len(pairs)))
            if len(keys.singles(pair[1])) > 1 or n_train_states[pair[1]] > rules.min_train_covariates
        ]
        drawn = candidates[: rules.capacity(len(pairs))]
        if not drawn:
            raise PerturbenchError(
                f"no perturbation can be held out of state {state_name(state)}: of its {len(pairs)} perturbations, "
                f"{len(pairs) - len(candidates)} would be in training in fewer than "
                f"min_train_covariates={rules.min_train_covariates} states, and at most {rules.capacity(len(pairs))} "
                f"may be held out (max_heldout_fraction_per_covariate={rules.max_heldout_fraction_per_covariate})."
            )
        n_train_states.subtract(condition for _, condition in drawn)
        heldout += drawn
    return _val_and_test(heldout, rules, rng)


def _unseen(selection: Selection, rules: SplitRules, rng: np.random.Generator) -> dict[Pair, str]:
    """Divide the single perturbations into folds; one is test and the next one val, with all their combinations."""
    keys, n_folds = selection.keys, rules.n_folds
    singles = sorted({single for _, condition in selection.pairs for single in keys.singles(condition)})
    if n_folds > len(singles):
        raise PerturbenchError(
            f"splitter.n_folds is {n_folds}; the unseen split needs at least 3 (train, val, test) and at most "
            f"{len(singles)}, the number of single perturbations."
        )
    folds = np.array_split(rng.permutation(singles), n_folds)
    test, val = set(folds[rules.fold]), set(folds[(rules.fold + 1) % n_folds])
    heldout = {}
    for pair in selection.pairs:
        names = set(keys.singles(pair[1]))
        if names & (test | val):
            heldout[pair] = "test" if names & test else "val"
    return heldout


HOLD_OUT: Mapping[str, Callable[[Selection, SplitRules, np.random.Generator], dict[Pair, str]]] = {
    "transfer": _transfer,
    "combine": _combine,
    "combine_inverse": _combine_inverse,
    "manual": _manual,
    "unseen": _unseen,
}
METHODS = (*HOLD_OUT, "csv", "column")


def _val_and_test(heldout: list[Pair], rules: SplitRules, rng: np.random.Generator) -> dict[Pair, str]:
    """Divide held-out pairs into val and test, stratified by state.

    The rounding error of a state is carried over to the next one, so that the fraction holds for all states together.
    """
    by_state = pairs_by_state(heldout)
    parts = dict.fromkeys(sorted(heldout), "val")
    states = list(by_state)
    n_pairs = n_test = 0
    for state in (states[position] for position in rng.permutation(len(states))):
        pairs = by_state[state]
        n_pairs += len(pairs)
        n_more = round(n_pairs * rules.test_fraction) - n_test
        n_test += n_more
        parts |= {pairs[position]: "test" for position in rng.permutation(len(pairs))[:n_more]}
    return parts
