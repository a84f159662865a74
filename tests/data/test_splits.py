import logging
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perturbench.data.groups import Groups, Keys
from perturbench.data.splits import PARTS, SplitRules, check_split, imbalance, read_split, split_cells, split_summary
from perturbench.errors import PerturbenchError

KEYS = Keys()


def screen_obs(states=("s1", "s2", "s3"), singles=12, doubles=(), controls=9, cells=2):
    """Return one row per cell: every perturbation in every state, and controls."""
    conditions = [*(f"P{i:02d}" for i in range(singles)), *doubles]
    rows = [(name, state) for state in states for name in conditions for _ in range(cells)]
    rows += [("control", state) for state in states for _ in range(controls)]
    return pd.DataFrame(rows, columns=["condition", "cell_type"], index=[f"c{i}" for i in range(len(rows))])


def pairs_of(obs, split, part):
    chosen = obs[(split == part).to_numpy() & (obs["condition"] != "control").to_numpy()]
    return set(zip(chosen["cell_type"], chosen["condition"], strict=True))


def by_hand(obs, **parts):
    """Split with the given (state, perturbation) pairs in val and test; controls in turn."""
    split = pd.Series("train", index=obs.index)
    for part, pairs in parts.items():
        split[[pair in pairs for pair in zip(obs["cell_type"], obs["condition"], strict=True)]] = part
    control = (obs["condition"] == "control").to_numpy()
    split[control] = np.resize(list(PARTS), control.sum())
    return split


@st.composite
def screens(draw):
    """Draw a screen where not every perturbation is in every state."""
    n_states = draw(st.integers(2, 5))
    n_perturbations = draw(st.integers(8, 25))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    present = rng.random((n_perturbations, n_states)) < draw(st.sampled_from([0.7, 1.0]))
    present[:, :2] = True
    rows = [(f"P{p}", f"s{s}") for p, s in zip(*np.nonzero(present), strict=True) for _ in range(rng.integers(1, 4))]
    rows += [("control", f"s{s}") for s in range(n_states) for _ in range(rng.integers(3, 12))]
    return pd.DataFrame(rows, columns=["condition", "cell_type"], index=[f"c{i}" for i in range(len(rows))])


@settings(max_examples=200, deadline=None)
@given(
    obs=screens(),
    seed=st.integers(0, 2**31),
    m=st.integers(1, 4),
    f=st.sampled_from([0.25, 0.3, 0.5, 0.75]),
    cap=st.sampled_from([None, 2, 3]),
    min_train=st.integers(1, 2),
)
def test_transfer_keeps_its_promises(obs, seed, m, f, cap, min_train):
    rules = SplitRules(m, f, cap, min_train_covariates=min_train)
    try:
        split = split_cells(obs, KEYS, "transfer", rules, seed)
    except PerturbenchError:
        # Perturbations may be in two states alone; with both kept in training, too little is left to hold out.
        assert min_train == 2
        return
    assert list(split.index) == list(obs.index)
    assert set(split) == set(PARTS)
    train, val, test = (pairs_of(obs, split, part) for part in PARTS)
    assert not (train & val or train & test or val & test)

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


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31), order=st.integers(0, 2**31), method=st.sampled_from(["transfer", "combine", "manual"])
)
def test_permuting_rows_permutes_the_split(seed, order, method):
    obs = screen_obs(doubles=[f"P{i:02d}+P{i + 1:02d}" for i in range(8)])
    rules = SplitRules(max_heldout_fraction_per_covariate=0.5, heldout_states=[{"cell_type": "s1"}])
    split = split_cells(obs, KEYS, method, rules, seed)
    shuffled = obs.sample(frac=1, random_state=order % 2**32)
    assert split_cells(shuffled, KEYS, method, rules, seed)[obs.index].equals(split)


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


def test_same_seed_same_split_and_others_differ():
    obs = screen_obs()
    splits = [split_cells(obs, KEYS, "transfer", SplitRules(), seed) for seed in (5, 5, 6)]
    assert splits[0].equals(splits[1])
    assert not splits[0].equals(splits[2])


@pytest.mark.parametrize("method", ["transfer", "combine", "manual"])
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
        candidates = doubles if method == "combine" else [*(f"P{i:02d}" for i in range(10)), *doubles]
        firsts += heldout == sorted(candidates)[: len(heldout)]
    assert set(n) == set(candidates)
    assert firsts < 30, "an alphabetical prefix is held out whatever the seed"
    assert max(n.values()) < 6 * min(n.values())


def test_number_of_states_held_out_of_is_uniform():
    obs = screen_obs(states=[f"s{i}" for i in range(6)], singles=30, cells=1)
    counts = Counter()
    for seed in range(20):
        rules = SplitRules(max_heldout_covariates=3, max_heldout_fraction_per_covariate=1.0)
        split = split_cells(obs, KEYS, "transfer", rules, seed)
        heldout = pairs_of(obs, split, "val") | pairs_of(obs, split, "test")
        counts.update(Counter(name for _, name in heldout).values())
    assert set(counts) == {1, 2, 3}
    assert all(150 < counts[k] < 250 for k in counts)


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
    assert "have perturbations that training never saw" in caplog.text
    assert "(unseen: " in caplog.text
    with pytest.raises(PerturbenchError, match=r"have perturbations that training never saw alone: .*splitter\.strict"):
        split_cells(obs, KEYS, "combine", SplitRules(**rules, strict=True), 0)


def test_strict_asks_for_singles():
    # X is in training, but only with P00: "perturbations that training never saw singly" are refused.
    obs = screen_obs(states=["k562"], singles=3, doubles=["P00+X", "P01+X", "P02+X"])
    split = by_hand(obs, val=[("k562", "P01+X")], test=[("k562", "P02+X")])
    with pytest.raises(PerturbenchError, match="X"):
        check_split(split, Groups.from_obs(obs, KEYS), strict=True)


def test_manual_holds_out_of_the_given_states_alone():
    obs = screen_obs(singles=10)
    rules = SplitRules(max_heldout_fraction_per_covariate=0.7, heldout_states=[{"cell_type": "s2"}])
    split = split_cells(obs, KEYS, "manual", rules, 0)
    val, test = pairs_of(obs, split, "val"), pairs_of(obs, split, "test")
    assert {state for state, _ in val | test} == {"s2"}
    assert len(val | test) == 7
    assert {len(val), len(test)} == {3, 4}


def test_manual_state_has_all_covariates():
    rows = [(f"P{i}", a, b) for i in range(10) for a in "uv" for b in "12"]
    rows += [("control", a, b) for a in "uv" for b in "12" for _ in range(3)]
    obs = pd.DataFrame(rows, columns=["condition", "line", "dose"], index=[f"c{i}" for i in range(len(rows))])
    keys = Keys(covariates=("line", "dose"))
    split = split_cells(obs, keys, "manual", SplitRules(heldout_states=[{"dose": 2, "line": "u"}]), 0)
    assert set(obs.loc[split != "train", "line"]) == {"u"}
    assert set(obs.loc[split != "train", "dose"]) == {"2"}
    with pytest.raises(PerturbenchError, match=r"held-out state \{'line': 'u'\} must name the covariates line, dose"):
        split_cells(obs, keys, "manual", SplitRules(heldout_states=[{"line": "u"}]), 0)


def test_manual_selector_that_matches_nothing():
    rules = SplitRules(heldout_states=[{"cell_type": "s1"}, {"cell_type": "hela"}])
    with pytest.raises(PerturbenchError, match=r"held-out state \(hela\) matches no cell; states are: \(s1\), \(s2\)"):
        split_cells(screen_obs(), KEYS, "manual", rules, 0)


def test_manual_of_a_wrong_covariate():
    with pytest.raises(PerturbenchError, match=r"held-out state \{'line': 's1'\} must name the covariates cell_type"):
        split_cells(screen_obs(), KEYS, "manual", SplitRules(heldout_states=[{"line": "s1"}]), 0)


def test_manual_without_states():
    with pytest.raises(PerturbenchError, match=r"needs splitter\.heldout_states"):
        split_cells(screen_obs(), KEYS, "manual", SplitRules(), 0)


def test_manual_of_every_state_leaves_perturbations_unseen():
    rules = SplitRules(max_heldout_fraction_per_covariate=1.0, heldout_states=[{"cell_type": s} for s in ("s1", "s2")])
    obs = screen_obs(states=["s1", "s2"])
    with pytest.raises(PerturbenchError, match="the train part of the split has no perturbed cells"):
        split_cells(obs, KEYS, "manual", rules, 0)


def test_unknown_method():
    with pytest.raises(
        PerturbenchError, match="unknown split method 'random'; choose one of: combine, manual, transfer"
    ):
        split_cells(screen_obs(), KEYS, "random", SplitRules(), 0)


def test_transfer_of_one_state_holds_nothing_out():
    with pytest.raises(PerturbenchError, match="the transfer split holds nothing out"):
        split_cells(screen_obs(states=["k562"]), KEYS, "transfer", SplitRules(), 0)


def test_too_few_held_out_for_both_parts():
    rules = SplitRules(max_heldout_fraction_per_covariate=0.5, heldout_states=[{"cell_type": "s1"}])
    with pytest.raises(PerturbenchError, match=r"the (val|test) part of the split has no perturbed cells"):
        split_cells(screen_obs(singles=2), KEYS, "manual", rules, 0)


def test_too_few_controls_for_three_parts():
    with pytest.raises(PerturbenchError, match=r"no control cells in the .* part of .*at least 3 control cells"):
        split_cells(screen_obs(controls=2), KEYS, "transfer", SplitRules(), 0)


def test_state_with_few_controls_that_is_not_held_out():
    obs = screen_obs(controls=3)
    obs = obs.drop(obs.index[(obs["condition"] == "control") & (obs["cell_type"] == "s2")][1:])
    split = split_cells(obs, KEYS, "manual", SplitRules(heldout_states=[{"cell_type": "s1"}]), 0)
    assert set(split[(obs["cell_type"] == "s2").to_numpy()]) == {"train"}


class TestCheck:
    obs = screen_obs(singles=4, cells=4)
    groups = Groups.from_obs(obs, KEYS)
    heldout = {"val": [("s1", "P00"), ("s2", "P01")], "test": [("s1", "P02"), ("s3", "P03")]}  # noqa: RUF012

    def split(self):
        return by_hand(self.obs, **self.heldout)

    def cells(self, state, condition):
        return self.obs.index[(self.obs["cell_type"] == state) & (self.obs["condition"] == condition)]

    def test_good_split(self):
        check_split(self.split(), self.groups, strict=True)

    @pytest.mark.parametrize("other", ["train", "test"])
    def test_leak(self, other):
        split = self.split()
        split[self.cells("s1", "P00")[0]] = other
        with pytest.raises(PerturbenchError, match=r"1 pairs are in both (train and val|val and test): P00 in \(s1\)"):
            check_split(split, self.groups, strict=False)

    def test_leak_between_spellings(self):
        obs = self.obs.copy()
        obs["condition"] = obs["condition"].replace("P00", "P01+P02")
        obs.loc[self.cells("s1", "P00")[:2], "condition"] = "P02+P01"
        split = self.split()
        split[self.cells("s1", "P00")[:2]] = "train"
        with pytest.raises(PerturbenchError, match=r"in both train and val: P01\+P02 in \(s1\)"):
            check_split(split, Groups.from_obs(obs, KEYS), strict=False)

    @pytest.mark.parametrize("part", PARTS)
    def test_empty_part(self, part):
        split = self.split()
        split[(split == part) & (self.obs["condition"] != "control")] = np.nan
        with pytest.raises(
            PerturbenchError, match=f"the {part} part of the split has no perturbed cells .*{part}: 0 pairs"
        ):
            check_split(split, self.groups, strict=False)

    def test_perturbation_that_training_never_saw(self):
        split = self.split()
        split[(split == "train") & (self.obs["condition"] == "P00")] = np.nan
        with pytest.raises(PerturbenchError, match=r"1 val pairs have perturbations .*never saw: P00 in \(s1\)"):
            check_split(split, self.groups, strict=False)

    def test_state_that_training_never_saw(self):
        split = self.split()
        split[(split == "train") & (self.obs["cell_type"] == "s3")] = np.nan
        with pytest.raises(PerturbenchError, match=r"1 test pairs are of states .*never saw: P03 in \(s3\)"):
            check_split(split, self.groups, strict=False)

    @pytest.mark.parametrize(("part", "state"), [("train", "s2"), ("val", "s2"), ("test", "s3")])
    def test_part_without_controls(self, part, state):
        split = self.split()
        split[(split == part) & (self.obs["condition"] == "control") & (self.obs["cell_type"] == state)] = np.nan
        with pytest.raises(PerturbenchError, match=rf"no control cells in the {part} part of 1 states: \({state}\)"):
            check_split(split, self.groups, strict=False)


class TestCsv:
    obs = screen_obs(singles=6)

    def split(self):
        return split_cells(self.obs, KEYS, "transfer", SplitRules(), 0)

    @pytest.mark.parametrize("header", [True, False])
    def test_is_read_back(self, tmp_path, header):
        self.split().to_csv(tmp_path / "split.csv", header=header)
        assert read_split(tmp_path / "split.csv", self.obs, KEYS).equals(self.split())

    def test_order_header_and_more_columns_do_not_matter(self, tmp_path):
        table = self.split().sample(frac=1, random_state=0).rename_axis("barcode").rename("set").reset_index()
        table.assign(note="x").to_csv(tmp_path / "split.csv", index=False)
        assert read_split(tmp_path / "split.csv", self.obs, KEYS).equals(self.split())

    def test_cell_names_like_numbers(self, tmp_path):
        obs = self.obs.set_axis([f"{i:04d}" for i in range(len(self.obs))])
        split = self.split().set_axis(obs.index)
        split.to_csv(tmp_path / "split.csv", header=False)
        assert read_split(tmp_path / "split.csv", obs, KEYS).equals(split)

    def test_unused_cells(self, tmp_path):
        split = self.split()
        unused = split[split == "train"].index[::9]
        split.drop(unused).to_csv(tmp_path / "without.csv")
        split.mask(split.index.isin(unused)).to_csv(tmp_path / "empty.csv")
        for name in ("without", "empty"):
            read = read_split(tmp_path / f"{name}.csv", self.obs, KEYS)
            assert list(read.index) == list(self.obs.index)
            assert set(read.index[read.isna()]) == set(unused)

    def test_cell_named_twice(self, tmp_path):
        split = self.split()
        pd.concat([split, split[["c7"]]]).to_csv(tmp_path / "split.csv")
        with pytest.raises(PerturbenchError, match=r"split\.csv' names cells twice: c7"):
            read_split(tmp_path / "split.csv", self.obs, KEYS)

    def test_unknown_cells(self, tmp_path):
        pd.concat([self.split(), pd.Series("train", index=["zed"])]).to_csv(tmp_path / "split.csv")
        with pytest.raises(PerturbenchError, match=r"names 1 cells that the data does not have: zed; .*like 'c0'"):
            read_split(tmp_path / "split.csv", self.obs, KEYS)

    @pytest.mark.parametrize("header", [True, False])
    def test_unknown_label(self, tmp_path, header):
        self.split().replace("test", "ood").to_csv(tmp_path / "split.csv", header=header)
        with pytest.raises(PerturbenchError, match=r"split\.csv' 'ood'; choose one of: test, train, val"):
            read_split(tmp_path / "split.csv", self.obs, KEYS)

    def test_missing_file(self, tmp_path):
        with pytest.raises(PerturbenchError, match=r"absent\.csv' not found; set splitter\.path"):
            read_split(tmp_path / "absent.csv", self.obs, KEYS)

    @pytest.mark.parametrize("text", ["", "c0\nc1\n"])
    def test_file_that_is_no_table_of_two_columns(self, tmp_path, text):
        (tmp_path / "split.csv").write_text(text)
        with pytest.raises(PerturbenchError, match=r"split\.csv"):
            read_split(tmp_path / "split.csv", self.obs, KEYS)

    def test_leak(self, tmp_path):
        split = self.split()
        first = split[split == "test"].index[0]
        split[first] = "train"
        split.to_csv(tmp_path / "split.csv")
        with pytest.raises(PerturbenchError, match="in both train and test"):
            read_split(tmp_path / "split.csv", self.obs, KEYS)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([5, 5, 5], 0.0), ([7], 0.0), ([], 0.0), ([1, 3], 1 - (0.25 * np.log2(4) + 0.75 * np.log2(4 / 3)))],
)
def test_imbalance(counts, expected):
    assert imbalance(np.array(counts)) == pytest.approx(expected, abs=1e-12)


def test_imbalance_grows():
    values = [imbalance(np.array([188, n, n])) for n in (188, 100, 33, 1)]
    assert values == sorted(values)
    assert 0 <= values[0] < values[-1] < 1


def test_summary_counts_every_cell_once():
    obs = screen_obs()
    split = split_cells(obs, KEYS, "transfer", SplitRules(), 0)
    unused = split.index[(split == "train") & (obs["condition"] == "control")][:2]
    split[unused] = np.nan
    table = split_summary(split, Groups.from_obs(obs, KEYS))
    assert table[["cells", "controls"]].to_numpy().sum() == len(obs)
    assert table.loc[table["split"] == "unused", "controls"].sum() == 2
    for part in PARTS:
        own = table[table["split"] == part]
        assert own["perturbations"].sum() == len(pairs_of(obs, split, part))
        assert own["imbalance"].iloc[0] == imbalance(own["perturbations"].to_numpy())
