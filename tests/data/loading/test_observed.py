import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from perturbench.data import SingleCellPerturbation, SingleCellPerturbationWithControls
from perturbench.data.loading.indices import BatchIndex
from perturbench.errors import PerturbenchError

ARGUMENTS = ("condition", "+", ["cell_type"], "control")


def cells(n=60, seed=0):
    """Return cells whose values are all different, so that a row of a batch identifies its cell."""
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame(
        {
            "condition": np.tile(["control", "A", "B+A", "control", "C"], n // 5),
            "cell_type": rng.choice(["s1", "s2", "s3"], n),
            "dose": rng.choice(["1", "10"], n),
            "batch": rng.choice(["x", "y"], n),
            "sex": "f",
            "day": rng.choice([1, 2], n),
        },
        index=[f"cell{i}" for i in range(n)],
    )
    x = np.arange(1, 4 * n + 1, dtype=np.float32).reshape(n, 4)
    x[:, 2] = 0
    return ad.AnnData(sp.csr_matrix(x), obs=obs, var=pd.DataFrame(index=list("abcd")), obsm={"E": x[:, :3] * 2})


def rows_of(adata, matrix):
    """Return the positions of the cells that the rows of a batch come from."""
    return np.searchsorted(adata.X[:, 0].toarray().ravel(), matrix[:, 0].numpy())


def test_integer_returns_one_cell_with_names():
    adata = cells()
    dataset, _ = SingleCellPerturbation.from_anndata(adata, *ARGUMENTS)
    assert len(dataset) == 60
    example = dataset[2]
    assert example.perturbations == ["A", "B"]
    assert example.covariates == {"cell_type": adata.obs["cell_type"].iloc[2]}
    assert example.id == "cell2"
    assert example.gene_names == list("abcd")
    assert example.gene_expression.tolist() == adata.X[2].toarray().ravel().tolist()
    assert example.controls is None
    assert dataset[np.int64(0)].perturbations == []
    assert dataset[-1].id == "cell59"


def test_position_out_of_range():
    dataset, _ = SingleCellPerturbation.from_anndata(cells(), *ARGUMENTS)
    with pytest.raises(IndexError):
        dataset[60]
    with pytest.raises(IndexError):
        dataset[np.array([60])]


@pytest.mark.parametrize("key", [np.array([7, 2, 2]), [7, 2, 2], BatchIndex(np.array([7, 2, 2]), 3)])
def test_batch_keeps_the_requested_order(key):
    adata = cells()
    dataset, _ = SingleCellPerturbation.from_anndata(adata, *ARGUMENTS)
    batch = dataset[key]
    assert batch.ids.tolist() == ["cell7", "cell2", "cell2"]
    assert torch.equal(batch.gene_expression, torch.from_numpy(adata.X[[7, 2, 2]].toarray()))
    assert batch.controls is None
    assert batch.groups is None


def test_batch_by_slice():
    dataset, _ = SingleCellPerturbation.from_anndata(cells(), *ARGUMENTS)
    assert dataset[3:6].ids.tolist() == ["cell3", "cell4", "cell5"]
    assert dataset[-2:].ids.tolist() == ["cell58", "cell59"]


def test_batch_by_mask():
    dataset, _ = SingleCellPerturbation.from_anndata(cells(), *ARGUMENTS)
    assert dataset[np.arange(60) % 25 == 2].ids.tolist() == ["cell2", "cell27", "cell52"]


def test_context_names_perturbations_states_and_genes():
    _, context = SingleCellPerturbation.from_anndata(cells(), *ARGUMENTS)
    assert context["perturbation_uniques"] == ["A", "B", "C"]
    assert context["covariate_uniques"] == {"cell_type": ["s1", "s2", "s3"]}
    assert context["gene_names"] == list("abcd")
    assert context["perturbation_control_value"] == "control"


def test_multi_hot_has_a_column_per_single_perturbation():
    dataset, _ = SingleCellPerturbation.from_anndata(cells(), *ARGUMENTS)
    batch = dataset[np.arange(5)]
    expected = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert batch.perturbations.tolist() == expected
    assert batch.perturbations.dtype == torch.float32


def test_one_hot_of_each_of_five_covariates():
    adata = cells()
    names = ["cell_type", "dose", "batch", "sex", "day"]
    dataset, context = SingleCellPerturbation.from_anndata(adata, "condition", "+", names, "control")
    batch = dataset[:]
    assert list(batch.covariates) == names
    for name in names:
        levels = context["covariate_uniques"][name]
        assert levels == sorted(map(str, adata.obs[name].unique()))
        assert batch.covariates[name].shape == (60, len(levels))
        assert batch.covariates[name].sum(dim=1).tolist() == [1] * 60
        assert [levels[i] for i in batch.covariates[name].argmax(dim=1)] == list(adata.obs[name].astype(str))


def test_no_covariates():
    dataset, context = SingleCellPerturbation.from_anndata(cells(), "condition", "+", None, "control")
    assert dataset[:5].covariates == {}
    assert dataset[0].covariates == {}
    assert context["covariate_uniques"] == {}


def test_one_covariate_value():
    dataset, _ = SingleCellPerturbation.from_anndata(cells(), "condition", "+", ["sex"], "control")
    assert dataset[:5].covariates["sex"].tolist() == [[1]] * 5


def test_one_cell_batch():
    dataset, _ = SingleCellPerturbationWithControls.from_anndata(cells(), *ARGUMENTS)
    batch = dataset[[2]]
    assert batch.gene_expression.shape == batch.controls.shape == (1, 4)
    assert batch.perturbations.tolist() == [[1, 1, 0]]
    assert batch.covariates["cell_type"].shape == (1, 3)


def test_sparse_and_dense_are_the_same():
    adata = cells()
    dense = adata.copy()
    dense.X = dense.X.toarray().astype(np.float64)
    batches = [
        SingleCellPerturbationWithControls.from_anndata(data, *ARGUMENTS)[0][BatchIndex(np.arange(30), 4)]
        for data in (adata, dense)
    ]
    for name in ("gene_expression", "controls", "perturbations"):
        assert torch.equal(getattr(batches[0], name), getattr(batches[1], name))
        assert getattr(batches[1], name).dtype == torch.float32


def test_embedding_follows_the_cells():
    adata = cells()
    dataset, context = SingleCellPerturbation.from_anndata(adata, *ARGUMENTS, embedding_key="E")
    assert context["n_embedding"] == 3
    assert np.array_equal(dataset[[5, 1]].embeddings, adata.obsm["E"][[5, 1]])
    assert np.array_equal(dataset[5].embeddings, adata.obsm["E"][5])


def test_missing_embedding_names_the_others():
    with pytest.raises(PerturbenchError, match="embedding 'X_pca' is not in obsm; obsm has: E"):
        SingleCellPerturbation.from_anndata(cells(), *ARGUMENTS, embedding_key="X_pca")


def test_missing_embedding_with_a_given_context():
    _, context = SingleCellPerturbation.from_anndata(cells(), *ARGUMENTS)
    with pytest.raises(PerturbenchError, match="embedding 'X_pca' is not in obsm"):
        SingleCellPerturbation.from_anndata(cells(), *ARGUMENTS, embedding_key="X_pca", context=context)


def test_given_context_is_used_for_encoding():
    adata = cells()
    _, context = SingleCellPerturbation.from_anndata(adata, *ARGUMENTS)
    part = adata[(adata.obs["condition"] == "C").to_numpy()]
    dataset, same = SingleCellPerturbation.from_anndata(part, *ARGUMENTS, context=context)
    assert same == context
    assert dataset[:2].perturbations.tolist() == [[0, 0, 1]] * 2


def test_unknown_names_with_a_given_context():
    adata = cells()
    known = adata[(adata.obs["condition"] != "C").to_numpy() & (adata.obs["cell_type"] != "s3").to_numpy()]
    _, context = SingleCellPerturbation.from_anndata(known, *ARGUMENTS)
    with pytest.raises(PerturbenchError, match="unknown perturbations: C; the training data has 2: A, B"):
        SingleCellPerturbation.from_anndata(adata, *ARGUMENTS, context=context)
    unknown_state = adata[(adata.obs["condition"] != "C").to_numpy()]
    with pytest.raises(PerturbenchError, match=r"unknown values of covariate 'cell_type': s3; .* has: s1, s2"):
        SingleCellPerturbation.from_anndata(unknown_state, *ARGUMENTS, context=context)


def test_controls_are_control_cells_of_the_same_state():
    adata = cells()
    dataset, _ = SingleCellPerturbationWithControls.from_anndata(
        adata, "condition", "+", ["cell_type", "dose"], "control"
    )
    for seed in range(5):
        matched = rows_of(adata, dataset[BatchIndex(np.arange(60), seed)].controls)
        assert (adata.obs["condition"].iloc[matched] == "control").all()
        for key in ("cell_type", "dose"):
            assert list(adata.obs[key].iloc[matched]) == list(adata.obs[key])
    example = dataset[3]
    assert torch.equal(example.controls, dataset[[3]].controls[0])


def test_no_control_value():
    with pytest.raises(PerturbenchError, match=r"perturbation_control_value is None, .*'condition'"):
        SingleCellPerturbationWithControls.from_anndata(cells(), "condition", "+", ["cell_type"])


def test_state_without_controls_is_named():
    adata = cells()
    adata = adata[~((adata.obs["condition"] == "control") & (adata.obs["cell_type"] == "s2")).to_numpy()]
    with pytest.raises(PerturbenchError, match=r"no control cells in 1 of 3 states: \(s2\)"):
        SingleCellPerturbationWithControls.from_anndata(adata, *ARGUMENTS)


def test_missing_column():
    with pytest.raises(PerturbenchError, match="covariate column 'treatment' is not in obs"):
        SingleCellPerturbation.from_anndata(cells(), "condition", "+", ["treatment"], "control")
