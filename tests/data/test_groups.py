import numpy as np
import pandas as pd
import pytest

from perturbench.data.groups import Groups, Keys, pair_name, state_name
from perturbench.errors import PerturbenchError

OBS = pd.DataFrame(
    {
        "condition": ["B+A", "control", "A", "A+B", "control+C", "control"],
        "cell_type": ["t", "b", "b", "t", "b", "t"],
    },
    index=list("uvwxyz"),
)


@pytest.mark.parametrize(
    ("name", "singles", "canonical"),
    [
        ("A", ("A",), "A"),
        ("B+A", ("A", "B"), "A+B"),
        ("C+A+B", ("A", "B", "C"), "A+B+C"),
        (" B + A ", ("A", "B"), "A+B"),
        ("control", (), "control"),
        ("A+control", ("A",), "A"),
        ("control+A", ("A",), "A"),
        ("control+control", (), "control"),
        ("A+A", ("A",), "A"),
    ],
)
def test_perturbations_are_sets_of_single_perturbations(name, singles, canonical):
    keys = Keys()
    assert keys.singles(name) == singles
    assert keys.canonical(name) == canonical


def test_without_delimiter_names_are_not_split():
    keys = Keys(delimiter=None)
    assert keys.singles("(+)-JQ1") == ("(+)-JQ1",)
    assert keys.canonical("B+A") == "B+A"


def test_other_delimiter_and_control():
    keys = Keys(control="NT", delimiter="_")
    assert keys.canonical("b_a") == "a_b"
    assert keys.canonical("NT_a") == "a"
    assert keys.singles("control") == ("control",)


def test_without_control_value_no_cell_is_control():
    groups = Groups.from_obs(OBS, Keys(control=None))
    assert not groups.is_control.any()
    assert ((("b",), "control")) in groups.pairs()


def test_codes_identify_state_and_perturbation_of_each_cell():
    groups = Groups.from_obs(OBS, Keys())
    assert groups.conditions == ("A", "A+B", "C", "control")
    assert groups.states == (("b",), ("t",))
    assert [groups.conditions[code] for code in groups.condition_codes] == [
        "A+B", "control", "A", "A+B", "C", "control"
    ]  # fmt: skip
    assert [groups.states[code][0] for code in groups.state_codes] == list(OBS["cell_type"])
    assert groups.is_control.tolist() == [False, True, False, False, False, True]


def test_pairs_leave_controls_out():
    groups = Groups.from_obs(OBS, Keys())
    assert groups.pairs() == [(("b",), "A"), (("b",), "C"), (("t",), "A+B")]
    assert groups.pairs(np.array([True, True, False, False, False, True])) == [(("t",), "A+B")]
    assert groups.pairs(groups.is_control) == []


def test_pair_codes_follow_the_given_order():
    groups = Groups.from_obs(OBS, Keys())
    pairs = [(("t",), "A+B"), (("nowhere",), "A"), (("b",), "A"), (("b",), "unheard of")]
    assert groups.pair_codes(pairs).tolist() == [0, -1, 2, 0, -1, -1]


def test_states_are_tuples_in_column_order():
    # Two columns share values: as sets, (a, b) and (b, a) would be one state.
    obs = pd.DataFrame({"condition": ["x"] * 4, "one": ["a", "b", "a", "b"], "two": ["b", "a", "a", "b"]})
    groups = Groups.from_obs(obs, Keys(covariates=("one", "two")))
    assert groups.states == (("a", "a"), ("a", "b"), ("b", "a"), ("b", "b"))
    assert groups.state_codes.tolist() == [1, 2, 0, 3]
    swapped = Groups.from_obs(obs, Keys(covariates=("two", "one")))
    assert [swapped.states[code] for code in swapped.state_codes] == [("b", "a"), ("a", "b"), ("a", "a"), ("b", "b")]


def test_no_covariates_is_one_state():
    groups = Groups.from_obs(OBS, Keys(covariates=()))
    assert groups.states == ((),)
    assert groups.state_codes.tolist() == [0] * 6
    assert groups.pairs() == [((), "A"), ((), "A+B"), ((), "C")]


def test_columns_may_be_categories_numbers_or_objects():
    text = Groups.from_obs(OBS.assign(day=["2", "10", "2", "10", "2", "2"]), Keys(covariates=("day",)))
    number = Groups.from_obs(OBS.assign(day=[2, 10, 2, 10, 2, 2]), Keys(covariates=("day",)))
    category = Groups.from_obs(
        OBS.assign(day=pd.Categorical(["2", "10", "2", "10", "2", "2"], ["2", "10"])), Keys(covariates=("day",))
    )
    for groups in (number, category):
        assert groups.states == text.states == (("10",), ("2",))
        assert groups.state_codes.tolist() == text.state_codes.tolist()


def test_categories_without_cells_are_left_out():
    obs = OBS.astype("category").iloc[:3]
    groups = Groups.from_obs(obs, Keys())
    assert groups.conditions == ("A", "A+B", "control")
    assert groups.states == (("b",), ("t",))
    assert Groups.from_obs(obs.iloc[1:], Keys()).states == (("b",),)


@pytest.mark.parametrize(("role", "column"), [("perturbation", "condition"), ("covariate", "cell_type")])
def test_missing_column_names_the_existing_ones(role, column):
    with pytest.raises(PerturbenchError, match=rf"{role} column '{column}' is not in obs; columns are: "):
        Groups.from_obs(OBS.drop(columns=column), Keys())


@pytest.mark.parametrize("column", ["condition", "cell_type"])
def test_missing_values_are_counted(column):
    obs = OBS.copy()
    obs.loc[["u", "y"], column] = np.nan
    with pytest.raises(PerturbenchError, match=rf"column '{column}' has no value for 2 of 6 cells"):
        Groups.from_obs(obs, Keys())
    with pytest.raises(PerturbenchError, match=rf"column '{column}' has no value for 2 of 6 cells"):
        Groups.from_obs(obs.astype("category"), Keys())


def test_names_for_messages():
    assert state_name(("a", "b")) == "(a, b)"
    assert pair_name((("a", "b"), "x")) == "x in (a, b)"
    assert pair_name(((), "x")) == "x"
