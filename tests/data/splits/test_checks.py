import numpy as np
import pytest
from tests.data.splits.screens import KEYS, by_hand, screen_obs

from perturbench.data.groups import Groups
from perturbench.data.splits import PARTS, SplitRules, check_split, split_cells, split_checks
from perturbench.errors import PerturbenchError


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

    def test_perturbation_that_training_does_not_have(self):
        split = self.split()
        split[(split == "train") & (self.obs["condition"] == "P00")] = np.nan
        with pytest.raises(
            PerturbenchError, match=r"1 val pairs have perturbations that training does not have: P00 in \(s1\)"
        ):
            check_split(split, self.groups, strict=False)

    def test_state_that_training_does_not_have(self):
        split = self.split()
        split[(split == "train") & (self.obs["cell_type"] == "s3")] = np.nan
        with pytest.raises(
            PerturbenchError, match=r"1 test pairs are in states that training does not have: P03 in \(s3\)"
        ):
            check_split(split, self.groups, strict=False)

    @pytest.mark.parametrize(("part", "state"), [("train", "s2"), ("val", "s2"), ("test", "s3")])
    def test_part_without_controls(self, part, state):
        split = self.split()
        split[(split == part) & (self.obs["condition"] == "control") & (self.obs["cell_type"] == state)] = np.nan
        with pytest.raises(PerturbenchError, match=rf"no control cells in the {part} part of 1 states: \({state}\)"):
            check_split(split, self.groups, strict=False)


def test_strict_requires_single_perturbations_in_training():
    # X is in training, but only in the combination P00+X.
    obs = screen_obs(states=["k562"], singles=3, doubles=["P00+X", "P01+X", "P02+X"])
    split = by_hand(obs, val=[("k562", "P01+X")], test=[("k562", "P02+X")])
    with pytest.raises(PerturbenchError, match="X"):
        check_split(split, Groups.from_obs(obs, KEYS), strict=True)


class TestChecksOfMethods:
    obs = screen_obs(states=["k562"], singles=6, doubles=["P00+P01", "P02+P03", "P04+P05"])
    groups = Groups.from_obs(obs, KEYS)

    def split(self, val, test):
        return by_hand(self.obs, val=[("k562", name) for name in val], test=[("k562", name) for name in test])

    def test_unseen(self):
        good = self.split(["P00", "P00+P01"], ["P02", "P02+P03"])
        check_split(good, self.groups, method="unseen")
        with pytest.raises(PerturbenchError, match="1 val pairs have perturbations that training does not have: P00"):
            check_split(self.split(["P00", "P00+P01"], ["P02+P03"]), self.groups, method="csv", strict=False)

    @pytest.mark.parametrize(
        ("val", "test", "message"),
        [
            (["P00"], ["P02", "P02+P03"], "1 val pairs contain only perturbations that earlier parts have: P00 in"),
            (["P00", "P00+P01"], ["P02"], "1 test pairs contain only perturbations that earlier parts have: P02 in"),
            (["P00"], ["P00+P01"], "1 test pairs contain only perturbations that earlier parts have"),
        ],
    )
    def test_unseen_perturbation_in_an_earlier_part(self, val, test, message):
        with pytest.raises(PerturbenchError, match=message):
            check_split(self.split(val, test), self.groups, method="unseen")

    def test_combine_inverse(self):
        check_split(self.split(["P00"], ["P02"]), self.groups, method="combine_inverse")
        not_inferable = self.split(["P00"], ["P02", "P03"])
        with pytest.raises(PerturbenchError, match="2 test pairs have no double in training whose other single"):
            check_split(not_inferable, self.groups, method="combine_inverse")

    def test_training_states_must_not_have_unseen_perturbations(self):
        obs = screen_obs()
        rules = SplitRules(states=[{"cell_type": "s1"}, {"cell_type": "s2"}], train_states="others")
        with pytest.raises(PerturbenchError, match=r"earlier parts have: .*leave splitter\.train_states empty"):
            split_cells(obs, KEYS, "unseen", rules, 0)


def test_table_of_checks():
    obs = screen_obs(states=["k562"], singles=2, doubles=["P00+X", "P01+Y", "P00+Z", "P01+W"])
    split = split_cells(obs, KEYS, "combine", SplitRules(max_heldout_fraction_per_covariate=0.5), 0)
    groups = Groups.from_obs(obs, KEYS)
    table = split_checks(split, groups).set_index("check")
    on_their_own = "training has the single perturbations of held-out combinations on their own"
    assert table["result"].drop(on_their_own).eq("passed").all()
    assert table.loc[on_their_own].tolist() == [
        "reported",
        "2 of 2 held-out combinations have single perturbations that training lacks",
    ]
    assert split_checks(split, groups, strict=True).set_index("check").loc[on_their_own, "result"] == "refused"
    assert table.loc["every part has perturbed cells", "found"] == "train: 4 pairs, val: 1 pairs, test: 1 pairs"

    leaky = split.copy()
    leaky[split.index[split == "val"][0]] = "train"
    table = split_checks(leaky, groups).set_index("check")
    assert table.loc["no (state, perturbation) pair is in two parts"].tolist() == ["refused", "1 of 6 pairs"]
    nothing = split_checks(split.where(split == "train"), groups).set_index("check")
    assert nothing.loc["every part has perturbed cells", "result"] == "refused"
