import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from perturbench.data.curation import standardise
from perturbench.data.groups import Keys
from perturbench.errors import PerturbenchError

KEYS = Keys()


def counts(conditions=("control", "B+A", "A", "control", "A+B", "A"), states=("s", "s", "s", "t", "t", "t")):
    x = np.random.default_rng(0).poisson(2, (len(conditions), 4)).astype(np.float32)
    obs = pd.DataFrame(
        {"condition": list(conditions), "cell_type": list(states)}, index=[f"c{i}" for i in range(len(conditions))]
    )
    return ad.AnnData(x, obs=obs, var=pd.DataFrame(index=list("wxyz")))


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix, lambda x: x.astype(np.int64)])
def test_counts_become_csr_float32(form):
    adata = counts()
    expected = adata.X.copy()
    adata.X = form(adata.X)
    result = standardise(adata, KEYS)
    assert sp.isspmatrix_csr(result.X)
    assert result.X.dtype == np.float32
    assert np.array_equal(result.X.toarray(), expected)


def test_combinations_have_one_name():
    result = standardise(counts(), KEYS)
    assert list(result.obs["condition"]) == ["control", "A+B", "A", "control", "A+B", "A"]
    assert [result.obs[name].dtype.name for name in ("condition", "cell_type")] == ["category"] * 2


def test_control_is_dropped_from_combinations():
    result = standardise(counts(["control", "control+A", "A", "control", "control+control", "A"]), KEYS)
    assert list(result.obs["condition"]) == ["control", "A", "A", "control", "control", "A"]


def test_input_is_left_alone():
    adata = counts()
    standardise(adata, KEYS, {"A": "C"})
    assert list(adata.obs["condition"]) == ["control", "B+A", "A", "control", "A+B", "A"]
    assert isinstance(adata.X, np.ndarray)


def test_other_delimiter_and_control():
    adata = counts(["NT", "B_A", "A", "NT", "A_B", "A"])
    result = standardise(adata, Keys(control="NT", delimiter="_"))
    assert list(result.obs["condition"]) == ["control", "A_B", "A", "control", "A_B", "A"]


def test_perturbations_are_in_condition_whatever_the_source_calls_them():
    adata = counts(["NT", "B", "A", "NT", "A", "A"])
    adata.obs["gene"], adata.obs["condition"] = adata.obs["condition"], "batch1"
    result = standardise(adata, Keys("gene", control="NT"))
    assert list(result.obs["condition"]) == ["control", "B", "A", "control", "A", "A"]
    assert (result.obs["condition_source"] == "batch1").all()
    with pytest.raises(
        PerturbenchError, match="covariate 'condition' has the name of the column that perturbations are written to"
    ):
        standardise(adata, Keys("gene", ("condition",), control="NT"))


def test_a_perturbation_called_control_is_refused():
    with pytest.raises(PerturbenchError, match="a perturbation is called 'control', but controls are 'NT'"):
        standardise(counts(["NT", "control", "A", "NT", "A", "A"]), Keys(control="NT"))


def test_empty_name():
    with pytest.raises(PerturbenchError, match="1 cells have an empty name in 'condition'"):
        standardise(counts(["control", "", "A", "control", "A", "A"]), KEYS)


def test_combinations_of_parts_that_occur_nowhere_else_are_told(caplog):
    standardise(counts(["control", "Na+ channel blocker", "A", "control", "A+B", "A"]), KEYS)
    assert "the single perturbations of 1 combinations occur nowhere else: Na+channel blocker" in caplog.text


def test_no_covariates():
    result = standardise(counts(), Keys(covariates=()))
    assert result.n_obs == 6


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_duplicate_cell_names():
    adata = counts()
    adata.obs_names = ["c0", "c1", "c1", "c3", "c0", "c5"]
    with pytest.raises(PerturbenchError, match=r"2 cell names occur more than once: c1, c0; .*obs_names_make_unique"):
        standardise(adata, KEYS)


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_duplicate_gene_names():
    adata = counts()
    adata.var_names = list("wxyx")
    with pytest.raises(PerturbenchError, match=r"1 gene names occur more than once: x; .*var_names_make_unique"):
        standardise(adata, KEYS)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
@pytest.mark.parametrize(
    ("value", "what"), [(-1, "negative"), (0.5, "not whole"), (np.nan, "not finite"), (np.inf, "not finite")]
)
def test_values_that_are_no_counts(form, value, what):
    adata = counts()
    adata.X[[2, 4], [1, 3]] = value
    adata.X = form(adata.X)
    with pytest.raises(PerturbenchError, match=rf"2 values of X are {what}, the first is {value:g}; .*counts_layer"):
        standardise(adata, KEYS)


def test_missing_column():
    with pytest.raises(PerturbenchError, match="perturbation column 'gene' is not in obs; columns are: condition"):
        standardise(counts(), Keys(perturbation="gene"))
    with pytest.raises(PerturbenchError, match="covariate column 'line' is not in obs; columns are: condition"):
        standardise(counts(), Keys(covariates=("line",)))


def test_missing_value():
    adata = counts()
    adata.obs.loc["c2", "condition"] = np.nan
    with pytest.raises(PerturbenchError, match="column 'condition' has no value for 1 of 6 cells"):
        standardise(adata, KEYS)


def test_no_controls():
    with pytest.raises(
        PerturbenchError, match=r"no control cells: no value of 'condition' is 'NT'; values are: A, A\+B, control\."
    ):
        standardise(counts(), Keys(control="NT"))


def test_no_controls_in_one_state():
    adata = counts(["control", "B+A", "A", "B", "A+B", "A"])
    with pytest.raises(PerturbenchError, match=r"no control cells in 1 of 2 states: \(t\)"):
        standardise(adata, KEYS)


@pytest.mark.parametrize("name", ["(+)-JQ1", "ENMD-2076 L-(+)-Tartaric acid", "A+", "+A", "A++B", "[x+y]"])
def test_delimiter_inside_a_name(name):
    adata = counts(["control", name, "A", "control", "A+B", "A"])
    with pytest.raises(PerturbenchError, match=r"1 perturbation names have the delimiter '\+' inside a name") as error:
        standardise(adata, KEYS)
    assert name in str(error.value)
    renamed = standardise(adata, KEYS, {name: "JQ1"})
    assert list(renamed.obs["condition"]) == ["control", "JQ1", "A", "control", "A+B", "A"]
    whole = standardise(adata, Keys(delimiter=None))
    assert list(whole.obs["condition"]) == ["control", name, "A", "control", "A+B", "A"]


def test_names_with_brackets_are_no_problem():
    adata = counts(["control", "JQ1 (R)+A", "JQ1 (R)", "control", "A+JQ1 (R)", "A"])
    assert set(standardise(adata, KEYS).obs["condition"]) == {"control", "A+JQ1 (R)", "JQ1 (R)", "A"}


def test_rename_may_make_controls():
    adata = counts(["NT", "B+A", "A", "NTC", "A+B", "A"])
    result = standardise(adata, KEYS, {"NT": "control", "NTC": "control"})
    assert list(result.obs["condition"])[::3] == ["control", "control"]


def test_rename_may_exchange_names():
    result = standardise(counts(["control", "B", "A", "control", "A+B", "A"]), KEYS, {"A": "B", "B": "A"})
    assert list(result.obs["condition"]) == ["control", "A", "B", "control", "A+B", "B"]


def test_rename_of_a_name_that_does_not_occur():
    with pytest.raises(PerturbenchError, match=r"rename_perturbations names perturbations that do not occur: JQ1"):
        standardise(counts(), KEYS, {"JQ1": "x", "A": "B"})
