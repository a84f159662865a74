import numpy as np
import pytest

from perturbench.data.encoding import context_keys, make_context, multi_hot, one_hot, require_same_names
from perturbench.data.groups import Groups
from perturbench.errors import PerturbenchError


@pytest.fixture
def context(screen, keys):
    return make_context(screen, Groups.from_obs(screen.obs, keys))


def test_context_has_names_of_the_given_rows_only(screen, keys, context):
    groups = Groups.from_obs(screen.obs, keys)
    rows = np.flatnonzero(screen.obs["condition"].isin(["P1", "P2"]) & (screen.obs["cell_type"] == "state1"))
    some = make_context(screen, groups, rows)
    assert some["perturbation_uniques"] == ["P1", "P2"]
    assert some["covariate_uniques"] == {"cell_type": ["state1"]}
    assert some["gene_names"] == context["gene_names"] == list(screen.var_names)
    assert context_keys(context) == keys


def test_unknown_perturbations_are_refused_or_left_out(context):
    columns = context["perturbation_uniques"]
    encoded = multi_hot(["control", "P2+P1", "P1+nope"], context, unknown="ignore")
    assert [[columns[i] for i in np.flatnonzero(row)] for row in encoded] == [[], ["P1", "P2"], ["P1"]]
    with pytest.raises(PerturbenchError, match="unknown perturbations: nope; the training data has 8: P1, P2"):
        multi_hot(["P1+nope"], context)


def test_unknown_covariate_values_are_refused(context):
    assert one_hot([("state2",)], context)["cell_type"].tolist() == [[0, 1, 0]]
    with pytest.raises(PerturbenchError, match=r"unknown values of covariate 'cell_type': s9; .* has: state1, state2"):
        one_hot([("s9",)], context)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gene_names": ["x"]}, r"gene_names differ\. Checkpoint: 60 .* Data: 1 \(x\)"),
        ({"perturbation_uniques": ["P1", "Q"]}, "perturbations differ.*only in the data: Q"),
        ({"covariate_uniques": {"cell_type": ["state1"]}}, "values of 'cell_type' differ"),
    ],
)
def test_contexts_that_differ(context, change, message):
    require_same_names(context, context)
    with pytest.raises(PerturbenchError, match=message):
        require_same_names(context, context | change)
