import logging
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.splits.screens import KEYS, assert_valid, combination_screens, pairs_of, screen_obs, screens, singles_of

from perturbench.data.splits import (
    PARTS,
    SplitRules,
    split_cells,
)
from perturbench.errors import PerturbenchError


@settings(max_examples=200, deadline=None)
@given(
    obs=screens(),
    seed=st.integers(0, 2**31),
    m=st.integers(1, 4),
    f=st.sampled_from([0.25, 0.3, 0.5, 0.75]),
    cap=st.sampled_from([None, 2, 3]),
    min_train=st.integers(1, 2),
)
def test_transfer_follows_its_rules(obs, seed, m, f, cap, min_train):
    rules = SplitRules(
        max_heldout_covariates=m,
        max_heldout_fraction_per_covariate=f,
        max_heldout_perturbations_per_covariate=cap,
        min_train_covariates=min_train,
    )
    try:
        split = split_cells(obs, KEYS, "transfer", rules, seed)
    except PerturbenchError:
        # Perturbations may be in two states alone; with both kept in training, too little is left to hold out.
        assert min_train == 2
        return
    train, val, test = assert_valid(obs, split).values()
    everything = train | val | test
    heldout = val | test
    for name, count in Counter(name for _, name in heldout).items():
        assert count <= m, f"{name} held out of {count} states"
        assert sum(other == name for _, other in train) >= min_train
    for state, count in Counter(state for state, _ in heldout).items():
        n = sum(other == state for other, _ in everything)
        assert count <= f * n + 1e-9
        assert cap is None or count <= cap

    control = (obs["condition"] == "control").to_numpy()
    for state in {state for state, _ in heldout}:
        assert set(split[control & (obs["cell_type"] == state).to_numpy()]) == set(PARTS)
    for state in {state for state, _ in everything} - {state for state, _ in heldout}:
        assert set(split[control & (obs["cell_type"] == state).to_numpy()]) == {"train"}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), fraction=st.sampled_from([0.3, 0.5, 0.7]))
def test_test_fraction_holds_in_every_state(seed, fraction):
    obs = screen_obs(singles=30)
    split = split_cells(obs, KEYS, "transfer", SplitRules(test_fraction=fraction), seed)
    val, test = (Counter(state for state, _ in pairs_of(obs, split, part)) for part in ("val", "test"))
    total = sum(val.values()) + sum(test.values())
    assert abs(sum(test.values()) - fraction * total) <= 0.5
    for state in set(val) | set(test):
        assert abs(test[state] - fraction * (val[state] + test[state])) <= 1


@pytest.mark.parametrize("method", ["transfer", "combine", "combine_inverse", "manual", "unseen"])
def test_every_perturbation_is_held_out_for_some_seed(method):
    doubles = [f"P{i:02d}+P{i + 1:02d}" for i in range(9)]
    obs = screen_obs(singles=10, doubles=doubles, cells=1)
    rules = SplitRules(heldout_states=[{"cell_type": "s1"}])
    n = Counter()
    firsts = 0
    for seed in range(60):
        split = split_cells(obs, KEYS, method, rules, seed)
        heldout = sorted({name for part in ("val", "test") for _, name in pairs_of(obs, split, part)})
        n.update(heldout)
        singles = [f"P{i:02d}" for i in range(10)]
        candidates = {"combine": doubles, "combine_inverse": singles}.get(method, [*singles, *doubles])
        firsts += heldout == sorted(candidates)[: len(heldout)]
    assert set(n) == set(candidates)
    assert firsts < 30, "an alphabetical prefix is held out whatever the seed"
    assert max(n.values()) < 6 * min(n.values())


def test_number_of_heldout_states_is_uniform():
    obs = screen_obs(states=[f"s{i}" for i in range(6)], singles=30, cells=1)
    counts = Counter()
    for seed in range(20):
        rules = SplitRules(max_heldout_covariates=3, max_heldout_fraction_per_covariate=1.0)
        split = split_cells(obs, KEYS, "transfer", rules, seed)
        heldout = pairs_of(obs, split, "val") | pairs_of(obs, split, "test")
        counts.update(Counter(name for _, name in heldout).values())
    assert set(counts) == {1, 2, 3}
    assert all(150 < counts[k] < 250 for k in counts)


def test_combine_keeps_all_singles_in_training():
    obs = screen_obs(states=["k562"], doubles=[f"P{i:02d}+P{j:02d}" for i in range(5) for j in range(6, 10)])
    split = split_cells(obs, KEYS, "combine", SplitRules(max_heldout_fraction_per_covariate=0.7), 42)
    train, val, test = (pairs_of(obs, split, part) for part in PARTS)
    assert {("k562", f"P{i:02d}") for i in range(12)} <= train
    assert len(val) == len(test) == 7
    assert sum("+" in name for _, name in train) == 6


def test_combine_without_combinations():
    with pytest.raises(PerturbenchError, match=r"needs combinations of perturbations, joined by '\+'"):
        split_cells(screen_obs(), KEYS, "combine", SplitRules(), 0)


def test_combination_of_unseen_perturbations_is_reported_or_refused(caplog):
    obs = screen_obs(states=["k562"], singles=2, doubles=["P00+X", "P01+Y", "P00+Z", "P01+W"])
    rules = {"max_heldout_fraction_per_covariate": 0.5}
    with caplog.at_level(logging.WARNING):
        split_cells(obs, KEYS, "combine", SplitRules(**rules), 0)
    assert "have single perturbations that training does not have on their own" in caplog.text
    assert "(unseen: " in caplog.text
    with pytest.raises(
        PerturbenchError,
        match=r"have single perturbations that training does not have on their own: .*splitter\.strict",
    ):
        split_cells(obs, KEYS, "combine", SplitRules(**rules, strict=True), 0)


def test_manual_holds_out_of_the_given_states_only():
    obs = screen_obs(singles=10)
    rules = SplitRules(max_heldout_fraction_per_covariate=0.7, heldout_states=[{"cell_type": "s2"}])
    split = split_cells(obs, KEYS, "manual", rules, 0)
    val, test = pairs_of(obs, split, "val"), pairs_of(obs, split, "test")
    assert {state for state, _ in val | test} == {"s2"}
    assert len(val | test) == 7
    assert {len(val), len(test)} == {3, 4}


def test_manual_of_every_state_would_leave_perturbations_unseen():
    rules = SplitRules(max_heldout_fraction_per_covariate=1.0, heldout_states=[{"cell_type": s} for s in ("s1", "s2")])
    obs = screen_obs(states=["s1", "s2"])
    with pytest.raises(
        PerturbenchError,
        match=r"no perturbation can be held out of state \(s[12]\): of its 12 perturbations, 12 would be in training",
    ):
        split_cells(obs, KEYS, "manual", rules, 0)


def test_transfer_of_one_state_holds_nothing_out():
    with pytest.raises(PerturbenchError, match="the transfer split holds nothing out"):
        split_cells(screen_obs(states=["k562"]), KEYS, "transfer", SplitRules(), 0)


def test_manual_without_states():
    with pytest.raises(PerturbenchError, match=r"needs splitter\.heldout_states"):
        split_cells(screen_obs(), KEYS, "manual", SplitRules(), 0)


def test_too_few_held_out_for_both_parts():
    rules = SplitRules(max_heldout_fraction_per_covariate=0.5, heldout_states=[{"cell_type": "s1"}])
    with pytest.raises(PerturbenchError, match=r"the (val|test) part of the split has no perturbed cells"):
        split_cells(screen_obs(singles=2), KEYS, "manual", rules, 0)


def test_transfer_reaches_f_when_it_can():
    """Enough perturbations in every state: each state gives exactly what it may."""
    obs = screen_obs(singles=40, cells=1)
    for seed in range(20):
        split = split_cells(obs, KEYS, "transfer", SplitRules(), seed)
        heldout = pairs_of(obs, split, "val") | pairs_of(obs, split, "test")
        assert Counter(state for state, _ in heldout) == {"s1": 12, "s2": 12, "s3": 12}


@settings(max_examples=100, deadline=None)
@given(obs=combination_screens(), seed=st.integers(0, 2**31), f=st.sampled_from([0.3, 0.5, 0.8]))
def test_combine_follows_its_rules(obs, seed, f):
    rules = SplitRules(max_heldout_fraction_per_covariate=f)
    try:
        split = split_cells(obs, KEYS, "combine", rules, seed)
    except PerturbenchError as error:
        assert re.search("holds nothing out|part of the split has no perturbed cells|needs combinations", str(error))
        return
    train, val, test = assert_valid(obs, split).values()
    assert all("+" in name for _, name in val | test)
    for state in obs["cell_type"].unique():
        doubles = {pair for pair in train | val | test if pair[0] == state and "+" in pair[1]}
        assert len(doubles & (val | test)) == int(f * len(doubles) + 1e-9), "f of each state, no more and no less"


@settings(max_examples=100, deadline=None)
@given(obs=combination_screens(), seed=st.integers(0, 2**31), f=st.sampled_from([0.3, 0.5, 1.0]))
def test_combine_inverse_follows_its_rules(obs, seed, f):
    rules = SplitRules(max_heldout_fraction_per_covariate=f)
    try:
        split = split_cells(obs, KEYS, "combine_inverse", rules, seed)
    except PerturbenchError as error:
        assert re.search("holds nothing out|part of the split has no perturbed cells|needs doubles", str(error))
        return
    train, val, test = assert_valid(obs, split).values()
    assert not any("+" in name for _, name in val | test), "doubles stay in training"

    def can_be_inferred(single, state, out):
        doubles = [singles_of(name) for where, name in train if where == state and "+" in name]
        return any(single in double and not out & (double - {single}) for double in doubles)

    for state in obs["cell_type"].unique():
        there = {name for where, name in train | val | test if where == state and "+" not in name}
        absent = {f"P{i}" for i in range(10)} - there
        out = {name for where, name in val | test if where == state}
        assert all(can_be_inferred(single, state, absent | out) for single in out)
        candidates = {single for single in there if can_be_inferred(single, state, absent)}
        limit = int(f * len(candidates) + 1e-9)
        assert len(out) <= limit
        if len(out) < limit:
            for single in candidates - out:
                more = out | {single}
                assert not all(can_be_inferred(name, state, absent | more) for name in more), (
                    f"{single} could be out, too"
                )


def test_combine_inverse_without_doubles():
    for obs in (screen_obs(), screen_obs(singles=2, doubles=["P00+X"])):
        with pytest.raises(PerturbenchError, match="needs doubles whose single perturbations are in the same state"):
            split_cells(obs, KEYS, "combine_inverse", SplitRules(), 0)


@settings(max_examples=100, deadline=None)
@given(obs=screens(), seed=st.integers(0, 2**31), f=st.sampled_from([0.5, 0.7, 0.9]), min_train=st.integers(1, 2))
def test_manual_follows_its_rules(obs, seed, f, min_train):
    chosen = ["s0", "s1"]
    rules = SplitRules(
        max_heldout_fraction_per_covariate=f,
        min_train_covariates=min_train,
        heldout_states=[{"cell_type": state} for state in chosen],
    )
    try:
        split = split_cells(obs, KEYS, "manual", rules, seed)
    except PerturbenchError as error:
        assert re.search(r"no perturbation can be held out of state \(s[01]\)|has no perturbed cells", str(error))
        return
    train, val, test = assert_valid(obs, split).values()
    assert {state for state, _ in val | test} == set(chosen)
    trained = Counter(name for _, name in train)
    states_of = Counter(name for _, name in train | val | test)
    for state in chosen:
        out = {name for where, name in val | test if where == state}
        limit = int(f * sum(where == state for where, _ in train | val | test) + 1e-9)
        assert len(out) <= limit
        assert all(trained[name] >= min_train for name in out)
        left = {name for where, name in train if where == state and trained[name] > min_train}
        assert len(out) == limit or not left, "f is reached unless perturbations have to stay"
    assert all(trained[name] >= min(min_train, states_of[name]) for name in states_of)


@settings(max_examples=100, deadline=None)
@given(obs=st.one_of(screens(), combination_screens()), seed=st.integers(0, 2**31), k=st.integers(3, 6))
def test_unseen_folds_partition_the_perturbations(obs, seed, k):
    singles = set().union(*map(singles_of, obs["condition"].unique())) - {"control"}
    tested, validated = Counter(), Counter()
    for fold in range(k):
        rules = SplitRules(n_folds=k, fold=fold)
        try:
            split = split_cells(obs, KEYS, "unseen", rules, seed)
        except PerturbenchError as error:
            # Of few singles, all may be in combinations with held-out ones in some state.
            assert re.search("has no perturbed cells|states that training does not have|needs at least 3", str(error))
            return
        train, val, test = ({singles_of(name) for _, name in pairs} for pairs in assert_valid(obs, split).values())
        known = frozenset().union(*train)
        assert not any(names <= known for names in val)
        assert not any(names <= known.union(*val) for names in test)
        hidden = singles - known
        tested.update(name for name in hidden if frozenset([name]) in test)
        validated.update(name for name in hidden if frozenset([name]) in val)
    alone = set(obs["condition"].unique()) & singles
    assert tested == validated == dict.fromkeys(alone, 1)


@pytest.mark.parametrize(
    ("n_folds", "fold", "message"),
    [
        (5, 5, "fold is 5; with n_folds=5 it is one of 0 to 4"),
        (5, -1, "fold is -1: input should be greater than or equal to 0"),
        (2, 0, "n_folds is 2: input should be greater than or equal to 3"),
        (13, 0, r"splitter\.n_folds is 13; .* at most 12, the number of single perturbations"),
    ],
)
def test_folds_out_of_range(n_folds, fold, message):
    with pytest.raises(PerturbenchError, match=message):
        split_cells(screen_obs(), KEYS, "unseen", SplitRules(n_folds=n_folds, fold=fold), 0)


def test_maximum_of_perturbations_holds_for_every_method():
    obs = screen_obs(doubles=[f"P{i:02d}+P{i + 1:02d}" for i in range(11)])
    for method in ("transfer", "combine", "combine_inverse", "manual"):
        rules = SplitRules(
            max_heldout_fraction_per_covariate=0.5,
            max_heldout_perturbations_per_covariate=2,
            heldout_states=[{"cell_type": "s1"}],
        )
        split = split_cells(obs, KEYS, method, rules, 3)
        heldout = pairs_of(obs, split, "val") | pairs_of(obs, split, "test")
        assert set(Counter(state for state, _ in heldout).values()) == {2}
