"""Which (state, perturbation) pairs each method holds out."""

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
    """Draw for each perturbation the states it is held out of, up to m states and f of each state."""
    states_of: dict[str, list[State]] = {}
    for state, condition in selection.pairs:
        states_of.setdefault(condition, []).append(state)
    capacity = {state: rules.capacity(len(own)) for state, own in selection.by_state().items()}
    heldout = []
    for condition in rng.permutation(sorted(states_of)):
        spare = len(states_of[condition]) - rules.min_train_covariates
        wanted = int(rng.integers(1, rules.max_heldout_covariates + 1))
        free = [state for state in states_of[condition] if capacity[state] > 0]
        for position in rng.permutation(len(free))[: max(0, min(wanted, spare))]:
            capacity[free[position]] -= 1
            heldout.append((free[position], str(condition)))
    return _val_and_test(heldout, rules, rng)


def _combine(selection: Selection, rules: SplitRules, rng: np.random.Generator) -> dict[Pair, str]:
    """Draw f of each state's combinations; all single perturbations stay in training."""
    keys = selection.keys
    combinations = [pair for pair in selection.pairs if len(keys.singles(pair[1])) > 1]
    if not combinations:
        raise PerturbenchError(
            f"the combine split needs combinations of perturbations, joined by '{keys.delimiter}'; "
            f"there are none among {listing(dict.fromkeys(name for _, name in selection.pairs))}."
        )
    heldout = []
    for own in pairs_by_state(combinations).values():
        heldout += [own[position] for position in rng.permutation(len(own))[: rules.capacity(len(own))]]
    return _val_and_test(heldout, rules, rng)


def _combine_inverse(selection: Selection, rules: SplitRules, rng: np.random.Generator) -> dict[Pair, str]:
    """Draw f of each state's singles that a double and its other single tell of; these stay in training."""
    heldout: list[Pair] = []
    n_candidates = 0
    for state, own in selection.by_state().items():
        partners = partners_of([condition for _, condition in own], selection.keys)
        n_candidates += len(partners)
        out: set[str] = set()
        for single in map(str, rng.permutation(sorted(partners))):
            if len(out) == rules.capacity(len(partners)):
                break
            # One that is out must keep a partner in training, and so must those that this one is a partner of.
            if all(partners[name] - out - {single} for name in (single, *(partners[single] & out))):
                out.add(single)
        heldout += [(state, single) for single in out]
    if not n_candidates:
        raise PerturbenchError(
            "the combine_inverse split needs doubles whose singles are there alone in the same state; there are none "
            f"among {listing(dict.fromkeys(name for _, name in selection.pairs))}."
        )
    return _val_and_test(heldout, rules, rng)


def partners_of(conditions: Sequence[str], keys: Keys) -> dict[str, set[str]]:
    """Return for each single perturbation those it makes a double with, where both are among the conditions alone."""
    there = set(conditions)
    partners: dict[str, set[str]] = {}
    for condition in conditions:
        singles = keys.singles(condition)
        if len(singles) == 2 and there.issuperset(singles):
            for one, other in (singles, singles[::-1]):
                partners.setdefault(one, set()).add(other)
    return partners


def _manual(selection: Selection, rules: SplitRules, rng: np.random.Generator) -> dict[Pair, str]:
    """Draw f of the perturbations of each given state; single ones stay in training elsewhere."""
    keys = selection.keys
    if not rules.heldout_states:
        raise PerturbenchError("the manual split needs splitter.heldout_states: a list of covariate values.")
    chosen = find_states(rules.heldout_states, "held-out state", keys, selection.states)
    spare = Counter(condition for _, condition in selection.pairs)
    own_of, heldout = selection.by_state(), []
    for state in (chosen[position] for position in rng.permutation(len(chosen))):
        own = own_of.get(state, [])
        free = [
            pair
            for pair in (own[position] for position in rng.permutation(len(own)))
            if len(keys.singles(pair[1])) > 1 or spare[pair[1]] > rules.min_train_covariates
        ]
        drawn = free[: rules.capacity(len(own))]
        if not drawn:
            raise PerturbenchError(
                f"no perturbation can be held out of state {state_name(state)}: of its {len(own)}, "
                f"{len(own) - len(free)} would stay in training in fewer than "
                f"min_train_covariates={rules.min_train_covariates} states, and at most {rules.capacity(len(own))} "
                f"may be held out (max_heldout_fraction_per_covariate={rules.max_heldout_fraction_per_covariate})."
            )
        spare.subtract(condition for _, condition in drawn)
        heldout += drawn
    return _val_and_test(heldout, rules, rng)


def _unseen(selection: Selection, rules: SplitRules, rng: np.random.Generator) -> dict[Pair, str]:
    """Deal the single perturbations into folds: one is test, the next val, with every combination they are in."""
    keys, n_folds = selection.keys, rules.n_folds
    singles = sorted({single for _, condition in selection.pairs for single in keys.singles(condition)})
    if n_folds > len(singles):
        raise PerturbenchError(
            f"splitter.n_folds is {n_folds}; the unseen split needs at least 3 (train, val, test) and at most the "
            f"{len(singles)} single perturbations that there are."
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
METHODS = (*HOLD_OUT, "csv")


def _val_and_test(heldout: list[Pair], rules: SplitRules, rng: np.random.Generator) -> dict[Pair, str]:
    """Draw which pairs are test, stratified by state; what rounding leaves over is carried to the next state."""
    own_of = pairs_by_state(heldout)
    parts = dict.fromkeys(sorted(heldout), "val")
    states = list(own_of)
    n_seen = n_test = 0
    for state in (states[position] for position in rng.permutation(len(states))):
        own = own_of[state]
        n_seen += len(own)
        n_more = round(n_seen * rules.test_fraction) - n_test
        n_test += n_more
        parts |= {own[position]: "test" for position in rng.permutation(len(own))[:n_more]}
    return parts
