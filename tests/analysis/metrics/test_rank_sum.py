"""The rank-sum test agrees with scanpy."""

import pytest
import scanpy as sc

from perturbench.analysis.metrics.rank_sum import rank_sum


def test_rank_sum_is_scanpys(cells, reference):
    tested = rank_sum(reference, reference)
    row = reference.pairs.index((("state1",), "P1"))
    state = cells[(cells.obs["cell_type"] == "state1") & cells.obs["condition"].isin(["control", "P1"])].copy()
    state.obs["condition"] = state.obs["condition"].astype(str).astype("category")
    state.uns["log1p"] = {"base": None}
    sc.tl.rank_genes_groups(state, "condition", reference="control", method="wilcoxon", tie_correct=True)
    theirs = sc.get.rank_genes_groups_df(state, "P1").set_index("names").loc[reference.genes]
    assert tested.scores[row] == pytest.approx(theirs["scores"].to_numpy(), abs=1e-5)
    assert tested.pvalues[row] == pytest.approx(theirs["pvals"].to_numpy(), rel=1e-5)
    assert (tested.significant[row] == (theirs["pvals_adj"] < 0.05).to_numpy()).all()
