import anndata as ad
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp

from perturbench.data.groups import Keys
from perturbench.errors import PerturbenchError
from perturbench.preprocessing import normalisation, prepare
from perturbench.preprocessing.preparation import fit_rows_of

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


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(normalisation, "_ROWS", 170)


def backed(adata, folder):
    adata.write_h5ad(folder / "curated.h5ad")
    return ad.read_h5ad(folder / "curated.h5ad", backed="r")


def same(one, other):
    return (
        one.obs.equals(other.obs)
        and one.var.equals(other.var)
        and all((a != b).nnz == 0 for a, b in ((one.X, other.X), (one.layers["counts"], other.layers["counts"])))
    )


@pytest.mark.parametrize("heldout", [False, True])
def test_backed_cells_give_the_same_as_cells_in_memory(screen, keys, tmp_path, small_blocks, heldout):
    screen.obsm["X_mine"] = np.arange(2.0 * screen.n_obs).reshape(-1, 2)
    screen.layers["more"] = screen.X.copy()
    options = {"n_top_genes": 10, "n_de_genes": 2, "fit_rows": np.arange(800) if heldout else None}
    from_file = prepare(backed(screen, tmp_path), keys, **options)
    assert same(from_file, prepare(screen, keys, **options))
    assert 10 < from_file.n_vars < screen.n_vars
    assert not from_file.isbacked
    assert np.array_equal(from_file.obsm["X_mine"], screen.obsm["X_mine"])
    assert (from_file.layers["more"] != from_file.layers["counts"]).nnz == 0


@pytest.mark.parametrize("form", [np.asarray, sp.csc_matrix])
def test_dense_and_csc_counts_give_the_same_as_csr(screen, keys, small_blocks, form):
    expected = prepare(screen, keys, n_top_genes=10, n_de_genes=2)
    screen.X = form(screen.X.toarray())
    assert same(prepare(screen, keys, n_top_genes=10, n_de_genes=2), expected)


def test_a_file_is_never_read_whole(screen, keys, tmp_path, small_blocks, monkeypatch):
    cells = backed(screen, tmp_path)
    read, slicing = [], type(cells.X).__getitem__

    def spy(matrix, index):
        found = slicing(matrix, index)
        read.append(found.shape[0])
        return found

    monkeypatch.setattr(type(cells.X), "__getitem__", spy)
    prepare(cells, keys, n_top_genes=10, n_de_genes=2)
    assert max(read) == 170
    assert sum(read) == 3 * screen.n_obs


def test_stored_zeros_are_not_seen(screen, keys):
    x = screen.X.toarray()
    x[:, 5] = 1
    screen.X = sp.csr_matrix(x)
    screen.X.data[screen.X.indices == 5] = 0
    assert "G6" not in prepare(screen, keys).var_names


def test_layers_can_be_changed_apart(screen, keys):
    prepared = prepare(screen, keys)
    before = prepared.layers["counts"].toarray()
    prepared.X.data[::2] = 0
    prepared.X.eliminate_zeros()
    assert np.array_equal(prepared.layers["counts"].toarray(), before)


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
def test_real_data_is_prepared_as_by_scanpy(shared, tmp_path, small_blocks, name, covariates):
    cells, keys = ad.read_h5ad(shared / "data" / f"{name}.h5ad"), Keys(covariates=covariates)
    cells.obs["condition"] = cells.obs["condition"].astype("category")
    cells.X = sp.csr_matrix(cells.X, dtype=np.float32)
    expected, genes = scanpy_genes(cells, keys, 60, 3)
    prepared = prepare(backed(cells, tmp_path), keys, n_top_genes=60, n_de_genes=3, keep_perturbed_genes=False)
    assert set(prepared.var_names) == genes
    assert 60 < prepared.n_vars < expected.n_vars
    assert np.array_equal(prepared.X.toarray(), expected[:, prepared.var_names].X.toarray())
