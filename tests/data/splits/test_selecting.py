import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.splits.screens import KEYS, assert_valid, screen_obs, singles_of

from perturbench.data.groups import Keys
from perturbench.data.splits import SplitRules, split_cells
from perturbench.errors import PerturbenchError


def test_selector_names_all_covariates():
    rows = [(f"P{i}", a, b) for i in range(10) for a in "uv" for b in "12"]
    rows += [("control", a, b) for a in "uv" for b in "12" for _ in range(3)]
    obs = pd.DataFrame(rows, columns=["condition", "line", "dose"], index=[f"c{i}" for i in range(len(rows))])
    keys = Keys(covariates=("line", "dose"))
    split = split_cells(obs, keys, "manual", SplitRules(heldout_states=[{"dose": 2, "line": "u"}]), 0)
    assert set(obs.loc[split != "train", "line"]) == {"u"}
    assert set(obs.loc[split != "train", "dose"]) == {"2"}
    with pytest.raises(PerturbenchError, match=r"held-out state \{'line': 'u'\} must name the covariates line, dose"):
        split_cells(obs, keys, "manual", SplitRules(heldout_states=[{"line": "u"}]), 0)


def test_selector_that_matches_no_state():
    rules = SplitRules(heldout_states=[{"cell_type": "s1"}, {"cell_type": "hela"}])
    with pytest.raises(PerturbenchError, match=r"held-out state \(hela\) matches no cell; states are: \(s1\), \(s2\)"):
        split_cells(screen_obs(), KEYS, "manual", rules, 0)


def test_selector_of_another_covariate():
    with pytest.raises(PerturbenchError, match=r"held-out state \{'line': 's1'\} must name the covariates cell_type"):
        split_cells(screen_obs(), KEYS, "manual", SplitRules(heldout_states=[{"line": "s1"}]), 0)


NINE = [f"{line}-{drug}" for line in ("a", "t", "u") for drug in ("lap", "nin", "none")]
CORE = {
    "heldout_states": ["a-nin", "t-lap", "u-none"],
    "states": ["a-nin", "t-lap", "u-none", "a-none", "t-nin", "u-lap"],
}


def selectors(names):
    return [{"cell_type": name} for name in names]


def nested(obs, seed, train_states):
    rules = SplitRules(
        max_heldout_fraction_per_covariate=0.7,
        train_states=train_states if isinstance(train_states, str) else selectors(train_states),
        **{name: selectors(states) for name, states in CORE.items()},
    )
    return split_cells(obs, KEYS, "manual", rules, seed)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), present=st.integers(0, 2**16))
def test_more_training_states_change_nothing_else(seed, present):
    """McFaline small, medium and full: the same held-out cells, controls among them, whatever the other states have."""
    rng = np.random.default_rng(present)
    obs = screen_obs(states=[*NINE, "a-zst", "u-zst"], singles=20, cells=1)
    obs = obs[(obs["condition"] == "control") | (rng.random(len(obs)) < 0.9)]
    small, medium, full = (nested(obs, seed, more) for more in ([], ["a-lap", "t-none", "u-nin"], "others"))
    for split, n_states in ((small, 6), (medium, 9), (full, 11)):
        used = split.notna().to_numpy()
        assert obs.loc[used, "cell_type"].nunique() == n_states
        assert_valid(obs, split)
        for part in ("val", "test"):
            assert set(split.index[split == part]) == set(small.index[small == part])
        assert set(split[used & ~small.notna().to_numpy()]) <= {"train"}
    assert full.notna().all()


def test_larger_fraction_keeps_what_a_smaller_one_keeps():
    obs = screen_obs(singles=20, doubles=[f"P{i:02d}+P{i + 1:02d}" for i in range(19)])
    kept = []
    for fraction in (0.4, 0.7, 1.0):
        split = split_cells(obs, KEYS, "transfer", SplitRules(downsample_fraction=fraction), 5)
        used = set(obs.loc[split.notna(), "condition"]) - {"control"}
        singles = {name for name in used if "+" not in name}
        assert len(singles) == round(fraction * 20)
        assert used == {name for name in set(obs["condition"]) - {"control"} if singles_of(name) <= singles}
        assert split[obs["condition"] == "control"].notna().all()
        kept.append(used)
    assert kept[0] < kept[1] < kept[2]


def test_dropped_perturbations_are_not_used_in_training_states_either():
    obs = screen_obs(states=["s1", "s2", "s3", "s4"])
    rules = SplitRules(downsample_fraction=0.5, states=selectors(["s1", "s2", "s3"]), train_states="others")
    split = split_cells(obs, KEYS, "transfer", rules, 0)
    used = obs[split.notna() & (obs["condition"] != "control")]
    assert used.groupby("cell_type")["condition"].nunique().to_dict() == dict.fromkeys(["s1", "s2", "s3", "s4"], 6)
    assert used["condition"].nunique() == 6


def test_larger_count_keeps_what_a_smaller_one_keeps():
    obs = screen_obs(singles=30)
    kept = []
    for count in (6, 18, 30):
        split = split_cells(obs, KEYS, "transfer", SplitRules(perturbations_per_state={"s2": count}), 5)
        used = obs[split.notna() & (obs["condition"] != "control")]
        assert used.groupby("cell_type")["condition"].nunique().to_dict() == {"s1": 30, "s2": count, "s3": 30}
        kept.append(set(used.loc[used["cell_type"] == "s2", "condition"]))
    assert kept[0] < kept[1] < kept[2]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"states": selectors(["s9"])}, r"state to use \(s9\) matches no cell; states are: \(s1\), \(s2\), \(s3\)"),
        ({"train_states": selectors(["s9"])}, r"training state \(s9\) matches no cell"),
        ({"states": [{"line": "s1"}]}, r"state to use \{'line': 's1'\} must name the covariates cell_type"),
        ({"train_states": selectors(["s2"])}, r"\(s2\) is in splitter\.train_states and among the states"),
        (
            {"states": selectors(["s1", "s2"]), "heldout_states": selectors(["s3"])},
            r"held-out state \(s3\) matches no cell; states are: \(s1\), \(s2\)",
        ),
        ({"perturbations_per_state": {"s2": 13}}, r"asks for 13 perturbations of state \(s2\), which has 12"),
        (
            {"perturbations_per_state": {"hela": 3}},
            r"names states that the split does not have: hela; states are: s1, s2, s3",
        ),
        ({"downsample_fraction": 0.01}, r"downsample_fraction=0\.01 keeps none of 12 single perturbations"),
        ({"downsample_fraction": 0.1}, "part of the split has no perturbed cells|holds nothing out|can be held out"),
    ],
)
def test_impossible_selection_is_refused_by_name(rules, message):
    rules = {"heldout_states": selectors(["s1"])} | rules
    with pytest.raises(PerturbenchError, match=message):
        split_cells(screen_obs(), KEYS, "manual", SplitRules(**rules), 0)


def test_states_of_several_covariates_are_named_together():
    rows = [(f"P{i}", a, b) for i in range(10) for a in "uv" for b in "12"]
    rows += [("control", a, b) for a in "uv" for b in "12" for _ in range(3)]
    obs = pd.DataFrame(rows, columns=["condition", "line", "dose"], index=[f"c{i}" for i in range(len(rows))])
    keys = Keys(covariates=("line", "dose"))
    split = split_cells(obs, keys, "transfer", SplitRules(perturbations_per_state={"u, 2": 4}), 0)
    used = obs[split.notna() & (obs["condition"] != "control")]
    assert used.groupby(["line", "dose"]).size().tolist() == [10, 4, 10, 10]
