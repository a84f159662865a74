import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.splits.screens import KEYS, screen_obs

from perturbench.data.groups import Groups, Keys
from perturbench.data.splits import METHODS, SplitRules, split_cells
from perturbench.errors import PerturbenchError


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    order=st.integers(0, 2**31),
    method=st.sampled_from([method for method in METHODS if method not in ("csv", "column")]),
)
def test_permuting_rows_permutes_the_split(seed, order, method):
    obs = screen_obs(states=["s1", "s2", "s3", "s4"], doubles=[f"P{i:02d}+P{i + 1:02d}" for i in range(8)])
    rules = SplitRules(
        max_heldout_fraction_per_covariate=0.5,
        heldout_states=[{"cell_type": "s1"}],
        downsample_fraction=0.9,
        perturbations_per_state={"s2": 12},
        states=[{"cell_type": state} for state in ("s1", "s2", "s3")],
    )
    split = split_cells(obs, KEYS, method, rules, seed)
    shuffled = obs.sample(frac=1, random_state=order % 2**32)
    assert split_cells(shuffled, KEYS, method, rules, seed)[obs.index].equals(split)


def test_same_seed_same_split_and_others_differ():
    obs = screen_obs()
    splits = [split_cells(obs, KEYS, "transfer", SplitRules(), seed) for seed in (5, 5, 6)]
    assert splits[0].equals(splits[1])
    assert not splits[0].equals(splits[2])


def test_control_fraction_in_training():
    obs = screen_obs(controls=100)
    split = split_cells(obs, KEYS, "transfer", SplitRules(train_control_fraction=0.7, test_fraction=0.6), 0)
    control = obs["condition"] == "control"
    for state in ("s1", "s2", "s3"):
        counts = split[control & (obs["cell_type"] == state)].value_counts()
        assert counts.to_dict() == {"train": 70, "test": 18, "val": 12}


def test_states_are_tuples_not_sets():
    rows = [(f"P{i}", a, b) for i in range(10) for a, b in (("x", "y"), ("y", "x"))]
    rows += [("control", a, b) for a, b in (("x", "y"), ("y", "x")) for _ in range(3)]
    obs = pd.DataFrame(rows, columns=["condition", "one", "two"], index=[f"c{i}" for i in range(len(rows))])
    keys = Keys(covariates=("one", "two"))
    split = split_cells(obs, keys, "transfer", SplitRules(), 0)
    groups = Groups.from_obs(obs, keys)
    heldout = {pair for part in ("val", "test") for pair in groups.pairs((split == part).to_numpy())}
    assert {state for state, _ in heldout} == {("x", "y"), ("y", "x")}
    assert 2 <= len(heldout) <= 6


def test_spellings_of_a_combination_stay_together():
    obs = screen_obs(doubles=["P01+P00", "P00+P01", "P02+P03", "P05+P04", "P06+P07"], cells=3)
    split = split_cells(obs, KEYS, "combine", SplitRules(max_heldout_fraction_per_covariate=0.5), 1)
    for state in ("s1", "s2", "s3"):
        spelled = obs["condition"].isin(["P01+P00", "P00+P01"]) & (obs["cell_type"] == state)
        assert split[spelled].nunique() == 1


def test_unknown_method():
    with pytest.raises(
        PerturbenchError,
        match="unknown split method 'random'; choose one of: combine, combine_inverse, manual, transfer, unseen",
    ):
        split_cells(screen_obs(), KEYS, "random", SplitRules(), 0)


def test_too_few_controls_for_three_parts():
    with pytest.raises(PerturbenchError, match=r"no control cells in the .* part of .*at least 3 control cells"):
        split_cells(screen_obs(controls=2), KEYS, "transfer", SplitRules(), 0)


def test_state_with_few_controls_that_is_not_held_out():
    obs = screen_obs(controls=3)
    obs = obs.drop(obs.index[(obs["condition"] == "control") & (obs["cell_type"] == "s2")][1:])
    split = split_cells(obs, KEYS, "manual", SplitRules(heldout_states=[{"cell_type": "s1"}]), 0)
    assert set(split[(obs["cell_type"] == "s2").to_numpy()]) == {"train"}
