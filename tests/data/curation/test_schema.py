"""All violations of the standard form are reported at once."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from perturbench.data.curation import check_curated
from perturbench.data.groups import Keys
from perturbench.errors import PerturbenchError


def cells(**columns):
    obs = {"condition": ["control", "A", "A+B", "control", "B"], "cell_type": ["s", "s", "s", "t", "t"]} | columns
    obs = pd.DataFrame({name: pd.Categorical(values) for name, values in obs.items()}, index=list("abcde"))
    return ad.AnnData(sp.csr_matrix(np.eye(5, 3, dtype=np.float32)), obs=obs, var=pd.DataFrame(index=list("xyz")))


def test_standard_cells_pass(screen):
    check_curated(cells(), Keys())
    check_curated(screen, Keys())


@pytest.mark.filterwarnings("ignore:(Observation|Variable) names are not unique")
def test_all_violations_at_once():
    adata = cells(condition=["control", "A", "B+A", None, "(+)-JQ1"])
    adata.obs_names = list("aacde")
    adata.var_names = list("xxz")
    adata.X.data[:] = [-1, 0.5, np.nan]
    with pytest.raises(PerturbenchError) as error:
        check_curated(adata, Keys())
    lead, *problems = str(error.value).split("\n- ")
    assert lead == "the cells break 7 rules:"
    for expected in (
        "1 cell names occur more than once: a;",
        "1 gene names occur more than once: x;",
        "1 values of X are not finite, the first is nan; 1 values of X are negative, the first is -1; "
        "1 values of X are not whole",
        "column 'condition' has no value for 1 of 5 cells",
        "1 perturbation names have the delimiter '+' inside a name: (+)-JQ1;",
        "1 combinations are not in sorted order: B+A",
        "no control cells in 1 of 2 states: (t)",
    ):
        assert any(expected in problem for problem in problems), expected


def test_controls_per_state():
    check_curated(cells(), Keys(), min_controls=1)
    with pytest.raises(PerturbenchError, match=r"under 2 control cells .* in 2 of 2 states: \(s\) 1, \(t\) 1"):
        check_curated(cells(), Keys(), min_controls=2)
    with pytest.raises(PerturbenchError, match="no control cells: no value of 'condition' is 'control'"):
        check_curated(cells(condition=list("AABBA")), Keys())


def test_columns_that_are_no_categories_or_not_there():
    adata = cells()
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(str)
    with pytest.raises(PerturbenchError, match="columns that are not categorical: cell_type"):
        check_curated(adata, Keys())
    with pytest.raises(PerturbenchError, match="columns line are not in obs; columns are: condition, cell_type"):
        check_curated(adata, Keys(covariates=("line",)))
