import anndata as ad
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp

from perturbench.data.groups import Keys
from perturbench.preprocessing import prepare

SOME = {"n_top_genes": 10, "n_de_genes": 0, "keep_perturbed_genes": False}


def test_highly_variable_genes_equal_scanpy(screen, keys):
    prepared = prepare(screen, keys, **SOME)
    expected = screen.copy()
    sc.pp.filter_genes(expected, min_cells=10)
    sc.pp.highly_variable_genes(expected, flavor="seurat_v3", n_top_genes=10, batch_key="cell_type")
    assert list(prepared.var_names) == list(expected.var_names[expected.var["highly_variable"]])
    assert prepared.n_vars == 10
    assert prepared.var["highly_variable"].all()


def test_each_state_of_two_covariates_is_a_batch(screen):
    screen.obs["dose"] = np.where(np.arange(screen.n_obs) % 2, "low", "high")
    prepared = prepare(screen, Keys(covariates=("cell_type", "dose")), **SOME)
    expected = screen.copy()
    sc.pp.filter_genes(expected, min_cells=10)
    expected.obs["both"] = (expected.obs["cell_type"].astype(str) + expected.obs["dose"]).astype("category")
    sc.pp.highly_variable_genes(expected, flavor="seurat_v3", n_top_genes=10, batch_key="both")
    assert list(prepared.var_names) == list(expected.var_names[expected.var["highly_variable"]])


def test_differentially_expressed_genes_equal_scanpy(screen, keys):
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


def test_perturbation_with_one_cell_is_skipped(screen, keys):
    names = screen.obs["condition"].astype(str).to_numpy()
    names[0] = "lonely"
    screen.obs["condition"] = names
    assert prepare(screen, keys, n_top_genes=10, n_de_genes=1).n_obs == screen.n_obs


def test_held_out_cells_do_not_influence_the_selection(screen, keys):
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
    # The same change does lead to other genes if all cells are used.
    everything = [prepare(adata, keys, **options).var_names.tolist() for adata in (screen, changed)]
    assert everything[0] != everything[1]


def test_selection_equals_that_on_training_cells_alone(screen, keys):
    train = np.flatnonzero(np.arange(screen.n_obs) % 3)
    options = {"n_top_genes": 10, "n_de_genes": 2}
    fitted = prepare(screen, keys, fit_rows=train, **options)
    alone = prepare(screen[train].copy(), keys, **options)
    assert list(fitted.var_names) == list(alone.var_names)
    mask = np.isin(np.arange(screen.n_obs), train)
    assert list(prepare(screen, keys, fit_rows=mask, **options).var_names) == list(alone.var_names)


def scanpy_genes(adata, keys, n_top_genes, n_de_genes):
    """Return log-normalised cells, and the genes that scanpy's functions select on them."""
    adata = adata.copy()
    sc.pp.filter_genes(adata, min_cells=10)
    adata.obs["state"] = adata.obs[list(keys.covariates)].astype(str).agg("|".join, axis=1).astype("category")
    sc.pp.highly_variable_genes(adata, flavor="seurat_v3", n_top_genes=n_top_genes, batch_key="state")
    sc.pp.normalize_total(adata, target_sum=10_000)
    sc.pp.log1p(adata)
    genes = set(adata.var_names[adata.var["highly_variable"]])
    for state in adata.obs["state"].cat.categories:
        cells = adata[adata.obs["state"] == state].copy()
        sizes = cells.obs["condition"].astype(str).value_counts()
        tested = sorted(set(sizes.index[sizes > 1]) - {"control"})
        sc.tl.rank_genes_groups(
            cells, "condition", groups=tested, reference="control", rankby_abs=True, n_genes=n_de_genes
        )
        names = cells.uns["rank_genes_groups"]["names"]
        genes |= {gene for group in names.dtype.names for gene in names[group]}
    return adata, genes


@pytest.mark.shared
@pytest.mark.filterwarnings("ignore:DataFrame is highly fragmented")
@pytest.mark.parametrize(
    ("name", "covariates"),
    [
        ("norman19_devel", ("cell_type",)),
        ("mcfaline23_devel", ("cell_type", "treatment")),
        ("papalexi21", ("replicate",)),
    ],
)
def test_real_data_equals_scanpy(shared, backed, small_blocks, name, covariates):
    cells, keys = ad.read_h5ad(shared / "data" / f"{name}.h5ad"), Keys(covariates=covariates)
    cells.obs["condition"] = cells.obs["condition"].astype("category")
    cells.X = sp.csr_matrix(cells.X, dtype=np.float32)
    expected, genes = scanpy_genes(cells, keys, 60, 3)
    prepared = prepare(backed(cells), keys, n_top_genes=60, n_de_genes=3, keep_perturbed_genes=False)
    assert set(prepared.var_names) == genes
    assert 60 < prepared.n_vars < expected.n_vars
    assert np.array_equal(prepared.X.toarray(), expected[:, prepared.var_names].X.toarray())
