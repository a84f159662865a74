"""The t-test agrees with scanpy."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

from perturbench.analysis.metrics.aggregations import logp
from perturbench.analysis.metrics.t_test import t_test
from perturbench.analysis.profiles import Reference
from perturbench.data.groups import Keys

# scanpy fills its table column by column.
pytestmark = pytest.mark.filterwarnings("ignore:DataFrame is highly fragmented")


def scanpys(adata, genes):
    """Return scanpy's scores and adjusted p-values, perturbations by genes in the given order."""
    adata = adata.copy()
    adata.X = (adata.X if isinstance(adata.X, np.ndarray) else adata.X.toarray()).astype(np.float64)
    adata.obs["condition"] = adata.obs["condition"].astype(str).astype("category")
    adata.uns["log1p"] = {"base": None}
    sc.tl.rank_genes_groups(adata, "condition", reference="control", method="t-test_overestim_var")
    table = sc.get.rank_genes_groups_df(adata, None)
    return (table.pivot(index="group", columns="names", values=name)[genes] for name in ("scores", "pvals_adj"))


def test_t_test_is_scanpys(cells, reference):
    tested = t_test(reference, reference)
    for state in ("state1", "state2"):
        scores, adjusted = scanpys(cells[cells.obs["cell_type"] == state], reference.genes)
        rows = [row for row, (names, _) in enumerate(reference.pairs) if names == (state,)]
        order = [reference.pairs[row][1] for row in rows]
        assert tested.scores[rows] == pytest.approx(scores.loc[order].to_numpy(), rel=1e-5, abs=1e-6)
        assert tested.adjusted_pvalues()[rows] == pytest.approx(adjusted.loc[order].to_numpy(), rel=1e-4, abs=1e-12)


def test_logp_by_hand(reference):
    tested = t_test(reference, reference)
    expected = np.sign(tested.scores) * -np.log(tested.adjusted_pvalues() + 1e-37)
    assert logp(reference, reference) == pytest.approx(expected)


def test_scores_by_hand():
    """Means 3 and 1, variances 2 and 0 of two cells: t = 2 / sqrt((2 + 0) / 2). The second gene never varies."""
    x = np.array([[2, 5], [4, 5], [1, 1], [1, 1], [1, 1]], dtype=np.float32)
    obs = pd.DataFrame({"condition": ["P", "P", *["control"] * 3], "cell_type": "s"}, list("abcde"))
    reference = Reference(ad.AnnData(x, obs=obs), Keys())
    tested = t_test(reference, reference)
    assert tested.scores.tolist() == [[2.0, 0.0]]
    # One degree of freedom is a Cauchy distribution: p = 1 - 2 * atan(2) / pi, times 2 genes.
    assert tested.adjusted_pvalues()[0] == pytest.approx([2 * (1 - 2 * np.arctan(2) / np.pi), 1.0])


def test_a_single_cell_is_not_tested(cells, reference):
    one = np.flatnonzero((cells.obs["condition"] == "P1") & (cells.obs["cell_type"] == "state1"))[1:]
    few = Reference(cells[np.setdiff1d(np.arange(cells.n_obs), one)].copy(), Keys())
    tested = t_test(few, few)
    row = few.pairs.index((("state1",), "P1"))
    assert np.isnan(tested.scores).all(axis=1).nonzero()[0].tolist() == [row]
    assert np.isnan(tested.adjusted_pvalues()).all(axis=1).nonzero()[0].tolist() == [row]


@pytest.mark.shared
def test_t_test_is_scanpys_on_real_cells(shared):
    cells = ad.read_h5ad(shared / "oracle/inputs/nocov/ref.h5ad")
    reference = Reference(cells, Keys("condition", ()))
    scores, adjusted = scanpys(cells, reference.genes)
    scores.index = adjusted.index = [reference.keys.canonical(name) for name in scores.index]
    order = [condition for _, condition in reference.pairs]
    tested = t_test(reference, reference)
    assert tested.scores == pytest.approx(scores.loc[order].to_numpy(), rel=1e-4, abs=1e-5)
    assert tested.adjusted_pvalues() == pytest.approx(adjusted.loc[order].to_numpy(), rel=1e-3, abs=1e-10)
