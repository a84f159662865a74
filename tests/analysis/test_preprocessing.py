import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp

from perturbench.analysis import prepare
from perturbench.analysis.preprocessing import fit_rows_of
from perturbench.data.groups import Keys
from perturbench.errors import PerturbenchError

SOME = {"n_top_genes": 10, "n_de_genes": 0, "keep_perturbed_genes": False}


def test_normalisation_is_scanpys(screen, keys):
    prepared = prepare(screen, keys, target_sum=500)
    expected = screen.copy()
    sc.pp.filter_genes(expected, min_cells=10)
    sc.pp.normalize_total(expected, target_sum=500)
    sc.pp.log1p(expected)
    assert list(prepared.var_names) == list(expected.var_names)
    assert np.array_equal(prepared.X.toarray(), expected.X.toarray())


def test_result_is_csr_float32_with_counts(screen, keys):
    prepared = prepare(screen, keys, **SOME)
    assert sp.isspmatrix_csr(prepared.X)
    assert prepared.X.dtype == np.float32
    counts = screen[:, prepared.var_names].X.toarray()
    assert np.array_equal(prepared.layers["counts"].toarray(), counts)
    assert prepared.obs.equals(screen.obs)


def test_input_is_left_alone(screen, keys):
    before = screen.copy()
    prepare(screen, keys, n_top_genes=10)
    assert (screen.X != before.X).nnz == 0
    assert not screen.layers
    assert not screen.var.columns.size


def test_highly_variable_genes_are_scanpys(screen, keys):
    prepared = prepare(screen, keys, **SOME)
    expected = screen.copy()
    sc.pp.filter_genes(expected, min_cells=10)
    sc.pp.highly_variable_genes(expected, flavor="seurat_v3", n_top_genes=10, batch_key="cell_type")
    assert list(prepared.var_names) == list(expected.var_names[expected.var["highly_variable"]])
    assert prepared.n_vars == 10
    assert prepared.var["highly_variable"].all()


def test_states_of_two_columns_are_one_batch_each(screen):
    screen.obs["dose"] = np.where(np.arange(screen.n_obs) % 2, "low", "high")
    prepared = prepare(screen, Keys(covariates=("cell_type", "dose")), **SOME)
    expected = screen.copy()
    sc.pp.filter_genes(expected, min_cells=10)
    expected.obs["both"] = (expected.obs["cell_type"].astype(str) + expected.obs["dose"]).astype("category")
    sc.pp.highly_variable_genes(expected, flavor="seurat_v3", n_top_genes=10, batch_key="both")
    assert list(prepared.var_names) == list(expected.var_names[expected.var["highly_variable"]])


def test_differentially_expressed_genes_are_scanpys(screen, keys):
    prepared = prepare(screen, keys, n_top_genes=3, n_de_genes=2, keep_perturbed_genes=False)
    expected = screen.copy()
    sc.pp.filter_genes(expected, min_cells=10)
    sc.pp.normalize_total(expected, target_sum=10_000)
    sc.pp.log1p(expected)
    genes = set()
    for state in ("state1", "state2", "state3"):
        cells = expected[(expected.obs["cell_type"] == state).to_numpy()].copy()
        sc.tl.rank_genes_groups(cells, "condition", reference="control", rankby_abs=True, n_genes=2)
        names = cells.uns["rank_genes_groups"]["names"]
        genes |= {gene for group in names.dtype.names for gene in names[group]}
    assert set(prepared.var_names[prepared.var["differentially_expressed"]]) == genes
    assert set(prepared.var_names) == genes | set(prepared.var_names[prepared.var["highly_variable"]])
    assert 3 < prepared.n_vars < screen.n_vars


def test_perturbed_genes_are_kept(screen, keys):
    low = prepare(screen, keys, **SOME)
    left_out = [gene for gene in screen.var_names if gene not in low.var_names][:3]
    rename = {"P1": left_out[0], "P2": left_out[1], "P1+P2": f"{left_out[0]}+{left_out[1]}"}
    names = screen.obs["condition"].astype(str).replace(rename)
    doubles = {
        name: name.replace("P1+", f"{left_out[0]}+").replace("+P1", f"+{left_out[0]}") for name in names.unique()
    }
    screen.obs["condition"] = names.replace(doubles)
    prepared = prepare(screen, keys, **SOME | {"keep_perturbed_genes": True})
    assert set(left_out[:2]) <= set(prepared.var_names[prepared.var["perturbed"]])
    assert left_out[2] not in prepared.var_names
    assert not prepared.var.loc[left_out[:2], "highly_variable"].any()
    assert not prepare(screen, keys, **SOME).var_names.isin(left_out).any()


def test_all_genes_are_kept_where_more_are_asked_for(screen, keys):
    prepared = prepare(screen, keys, n_top_genes=4000)
    assert prepared.n_vars == screen.n_vars
    assert prepared.var["highly_variable"].all()


def test_rare_genes_are_dropped(screen, keys):
    x = screen.X.toarray()
    x[:, 5] = 0
    x[:9, 5] = 50
    screen.X = sp.csr_matrix(x)
    assert "G6" not in prepare(screen, keys, min_cells=10).var_names
    assert "G6" in prepare(screen, keys, min_cells=9).var_names


def test_no_covariates(screen):
    prepared = prepare(screen, Keys(covariates=()), n_top_genes=10, n_de_genes=1)
    assert 10 <= prepared.n_vars < 60


def test_perturbation_of_one_cell_is_no_problem(screen, keys):
    names = screen.obs["condition"].astype(str).to_numpy()
    names[0] = "lonely"
    screen.obs["condition"] = names
    assert prepare(screen, keys, n_top_genes=10, n_de_genes=1).n_obs == screen.n_obs


def test_held_out_counts_do_not_choose_genes(screen, keys):
    heldout = np.arange(screen.n_obs) % 3 == 0
    train = np.flatnonzero(~heldout)
    options = {"n_top_genes": 10, "n_de_genes": 2, "min_cells": 500}
    changed = screen.copy()
    x = changed.X.toarray()
    rng = np.random.default_rng(0)
    x[heldout] = rng.permuted(x[heldout], axis=1) * rng.integers(1, 20, (heldout.sum(), 60))
    changed.X = sp.csr_matrix(x)
    one, other = (prepare(adata, keys, fit_rows=train, **options) for adata in (screen, changed))
    assert one.var.equals(other.var)
    assert one.n_vars < 60
    assert one.shape[0] == screen.n_obs
    # The same change does choose other genes when all cells may choose.
    everything = [prepare(adata, keys, **options).var_names.tolist() for adata in (screen, changed)]
    assert everything[0] != everything[1]


def test_gene_of_held_out_cells_alone_is_dropped(screen, keys):
    heldout = np.arange(screen.n_obs) % 3 == 0
    x = screen.X.toarray()
    x[~heldout, 5] = 0
    x[heldout, 5] = 9
    screen.X = sp.csr_matrix(x)
    assert "G6" in prepare(screen, keys).var_names
    assert "G6" not in prepare(screen, keys, fit_rows=np.flatnonzero(~heldout)).var_names


def test_training_cells_alone_choose_the_same_genes(screen, keys):
    train = np.flatnonzero(np.arange(screen.n_obs) % 3)
    options = {"n_top_genes": 10, "n_de_genes": 2}
    fitted = prepare(screen, keys, fit_rows=train, **options)
    alone = prepare(screen[train].copy(), keys, **options)
    assert list(fitted.var_names) == list(alone.var_names)
    mask = np.isin(np.arange(screen.n_obs), train)
    assert list(prepare(screen, keys, fit_rows=mask, **options).var_names) == list(alone.var_names)


def test_fit_rows_of():
    split = np.array(["train", "val", "", "train", "test"])
    assert fit_rows_of(split, "train").tolist() == [0, 3]
    assert fit_rows_of(split, "all") is None
    with pytest.raises(PerturbenchError, match=r"unknown preprocessing\.fit_on 'val'; choose one of: all, train"):
        fit_rows_of(split, "val")


def test_no_gene_is_seen_often_enough(screen, keys):
    with pytest.raises(PerturbenchError, match="no gene is seen in at least min_cells=5000 of 1200 cells"):
        prepare(screen, keys, min_cells=5000)


def test_no_gene_is_asked_for(screen, keys):
    with pytest.raises(PerturbenchError, match="gene"):
        prepare(screen, keys, n_top_genes=0, n_de_genes=0, keep_perturbed_genes=False)


def test_cells_without_counts(screen, keys):
    x = screen.X.toarray()
    x[[3, 7]] = 0
    screen.X = sp.csr_matrix(x)
    with pytest.raises(PerturbenchError, match="2 of 1200 cells have no counts in the kept genes: cell3, cell7"):
        prepare(screen, keys)
