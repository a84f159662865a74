import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp

from perturbench.data.groups import Keys
from perturbench.errors import PerturbenchError
from perturbench.preprocessing import prepare
from perturbench.preprocessing.preparation import fit_rows_of

SOME = {"n_top_genes": 10, "n_de_genes": 0, "keep_perturbed_genes": False}


def test_normalised_expression_equals_scanpy(screen, keys):
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


def test_input_is_not_changed(screen, keys):
    before = screen.copy()
    prepare(screen, keys, n_top_genes=10)
    assert (screen.X != before.X).nnz == 0
    assert not screen.layers
    assert not screen.var.columns.size


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


def test_all_genes_are_kept_if_more_are_requested(screen, keys):
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


def test_gene_that_only_held_out_cells_express_is_dropped(screen, keys):
    heldout = np.arange(screen.n_obs) % 3 == 0
    x = screen.X.toarray()
    x[~heldout, 5] = 0
    x[heldout, 5] = 9
    screen.X = sp.csr_matrix(x)
    assert "G6" in prepare(screen, keys).var_names
    assert "G6" not in prepare(screen, keys, fit_rows=np.flatnonzero(~heldout)).var_names


def test_fit_rows_of():
    split = np.array(["train", "val", "", "train", "test"])
    assert fit_rows_of(split, "train").tolist() == [0, 3]
    assert fit_rows_of(split, "all") is None
    with pytest.raises(PerturbenchError, match=r"unknown preprocessing\.fit_on 'val'; choose one of: all, train"):
        fit_rows_of(split, "val")


def test_no_gene_is_expressed_in_enough_cells(screen, keys):
    with pytest.raises(PerturbenchError, match="no gene is expressed in at least min_cells=5000 of 1200 cells"):
        prepare(screen, keys, min_cells=5000)


def test_no_gene_is_requested(screen, keys):
    with pytest.raises(PerturbenchError, match="gene"):
        prepare(screen, keys, n_top_genes=0, n_de_genes=0, keep_perturbed_genes=False)


def test_cells_without_counts(screen, keys):
    x = screen.X.toarray()
    x[[3, 7]] = 0
    screen.X = sp.csr_matrix(x)
    with pytest.raises(
        PerturbenchError,
        match="2 of 1200 cells have no counts in genes that at least min_cells cells express: cell3, cell7",
    ):
        prepare(screen, keys)


def same(one, other):
    return (
        one.obs.equals(other.obs)
        and one.var.equals(other.var)
        and all((a != b).nnz == 0 for a, b in ((one.X, other.X), (one.layers["counts"], other.layers["counts"])))
    )


@pytest.mark.parametrize("heldout", [False, True])
def test_backed_cells_give_the_same_result_as_cells_in_memory(screen, keys, backed, small_blocks, heldout):
    screen.obsm["X_mine"] = np.arange(2.0 * screen.n_obs).reshape(-1, 2)
    screen.layers["more"] = screen.X.copy()
    options = {"n_top_genes": 10, "n_de_genes": 2, "fit_rows": np.arange(800) if heldout else None}
    from_file = prepare(backed(screen), keys, **options)
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


def test_file_is_never_read_whole(screen, keys, backed, small_blocks, monkeypatch):
    cells = backed(screen)
    read, slicing = [], type(cells.X).__getitem__

    def spy(matrix, index):
        found = slicing(matrix, index)
        read.append(found.shape[0])
        return found

    monkeypatch.setattr(type(cells.X), "__getitem__", spy)
    prepare(cells, keys, n_top_genes=10, n_de_genes=2)
    assert max(read) == 170
    assert sum(read) == 3 * screen.n_obs


def test_stored_zeros_are_not_expression(screen, keys):
    x = screen.X.toarray()
    x[:, 5] = 1
    screen.X = sp.csr_matrix(x)
    screen.X.data[screen.X.indices == 5] = 0
    assert "G6" not in prepare(screen, keys).var_names


def test_layers_do_not_share_memory(screen, keys):
    prepared = prepare(screen, keys)
    before = prepared.layers["counts"].toarray()
    prepared.X.data[::2] = 0
    prepared.X.eliminate_zeros()
    assert np.array_equal(prepared.layers["counts"].toarray(), before)
