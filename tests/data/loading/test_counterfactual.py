import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from perturbench.data import Counterfactual, CounterfactualWithReference
from perturbench.data.loading.indices import BatchIndex
from perturbench.errors import PerturbenchError

ARGUMENTS = ("condition", "+", ["cell_type"], "control")
# Controls c0, c1 in s1 and c2, c3, c4 in s2; A in both states, A+B in s2 alone.
ROWS = [
    ("c0", "control", "s1"),
    ("a0", "A", "s1"),
    ("c1", "control", "s1"),
    ("c2", "control", "s2"),
    ("a1", "A", "s2"),
    ("b0", "B+A", "s2"),
    ("c3", "control", "s2"),
    ("c4", "control", "s2"),
    ("a2", "A", "s1"),
]
CONTROLS = {"s1": ["c0", "c1"], "s2": ["c2", "c3", "c4"]}


def cells():
    obs = pd.DataFrame(ROWS, columns=["cell", "condition", "cell_type"]).set_index("cell")
    obs["sex"] = "f"
    x = np.arange(1, 28, dtype=np.float32).reshape(9, 3)
    return ad.AnnData(sp.csr_matrix(x), obs=obs, var=pd.DataFrame(index=list("xyz")), obsm={"E": -x})


def expression(adata, names):
    return torch.from_numpy(adata[list(names)].X.toarray())


def test_each_control_cell_is_under_each_perturbation_of_its_state():
    adata = cells()
    dataset, _ = Counterfactual.from_anndata(adata, *ARGUMENTS)
    assert dataset.pairs == [(("s1",), "A"), (("s2",), "A"), (("s2",), "A+B")]
    assert len(dataset) == 2 + 3 + 3
    batch = dataset[:]
    assert batch.ids.tolist() == [*CONTROLS["s1"], *CONTROLS["s2"], *CONTROLS["s2"]]
    assert batch.groups.tolist() == [0, 0, 1, 1, 1, 2, 2, 2]
    assert batch.perturbations.tolist() == [[1, 0]] * 5 + [[1, 1]] * 3
    assert batch.covariates["cell_type"].tolist() == [[1, 0]] * 2 + [[0, 1]] * 6
    assert torch.equal(batch.controls, expression(adata, batch.ids))


def test_observed_expression_is_not_in_the_batch():
    for dataset, _ in (
        Counterfactual.from_anndata(cells(), *ARGUMENTS),
        CounterfactualWithReference.from_anndata(cells(), *ARGUMENTS),
    ):
        assert dataset[:].gene_expression is None
        assert dataset[0].gene_expression is None


def test_integer_returns_one_cell_with_names():
    adata = cells()
    dataset, _ = Counterfactual.from_anndata(adata, *ARGUMENTS, embedding_key="E")
    example = dataset[6]
    assert example.perturbations == ["A", "B"]
    assert example.covariates == {"cell_type": "s2"}
    assert example.id == "c3"
    assert torch.equal(example.controls, expression(adata, ["c3"])[0])
    assert np.array_equal(example.embeddings, adata["c3"].obsm["E"][0])
    assert dataset[-1].id == "c4"
    with pytest.raises(IndexError):
        dataset[8]


@pytest.mark.parametrize("key", [np.array([7, 0, 2]), [7, 0, 2], BatchIndex(np.array([7, 0, 2]), 5)])
def test_batch_keeps_the_requested_order(key):
    batch = Counterfactual.from_anndata(cells(), *ARGUMENTS)[0][key]
    assert batch.ids.tolist() == ["c4", "c0", "c2"]
    assert batch.groups.tolist() == [2, 0, 1]


def test_negative_positions_count_from_the_end():
    dataset, _ = Counterfactual.from_anndata(cells(), *ARGUMENTS)
    batch = dataset[np.array([-1, -8])]
    assert batch.ids.tolist() == ["c4", "c0"]
    assert batch.groups.tolist() == [2, 0]


def test_mask_selects_positions():
    dataset, _ = Counterfactual.from_anndata(cells(), *ARGUMENTS)
    assert dataset[np.arange(8) % 3 == 2].ids.tolist() == ["c2", "c2"]


def test_position_out_of_range():
    dataset, _ = Counterfactual.from_anndata(cells(), *ARGUMENTS)
    with pytest.raises(IndexError):
        dataset[np.array([8])]


def test_one_cell_batch():
    batch = Counterfactual.from_anndata(cells(), *ARGUMENTS)[0][[4]]
    assert batch.controls.shape == (1, 3)
    assert batch.perturbations.tolist() == [[1, 0]]


def test_requested_pairs_keep_their_order_and_get_canonical_names():
    queries = [(("s1",), "B + A"), (["s2"], "B")]
    dataset, _ = Counterfactual.from_anndata(cells(), *ARGUMENTS, desired=queries)
    assert dataset.pairs == [(("s1",), "A+B"), (("s2",), "B")]
    assert dataset[:].perturbations.tolist() == [[1, 1]] * 2 + [[0, 1]] * 3


def test_sparse_and_dense_are_the_same():
    adata = cells()
    dense = adata.copy()
    dense.X = dense.X.toarray()
    one, other = (Counterfactual.from_anndata(data, *ARGUMENTS)[0][:] for data in (adata, dense))
    assert torch.equal(one.controls, other.controls)
    assert one.ids.tolist() == other.ids.tolist()


def test_no_covariates():
    dataset, _ = Counterfactual.from_anndata(cells(), "condition", "+", None, "control")
    assert dataset.pairs == [((), "A"), ((), "A+B")]
    assert len(dataset) == 10
    assert dataset[:].covariates == {}


def test_one_covariate_value():
    dataset, _ = Counterfactual.from_anndata(cells(), "condition", "+", ["sex"], "control")
    assert dataset.pairs == [(("f",), "A"), (("f",), "A+B")]
    assert dataset[:].covariates["sex"].tolist() == [[1]] * 10


def test_five_covariates():
    adata = cells()
    names = ["cell_type", "sex", "c3", "c4", "c5"]
    adata.obs[["c3", "c4", "c5"]] = ["u", "v", "w"]
    dataset, _ = Counterfactual.from_anndata(adata, "condition", "+", names, "control")
    assert dataset.pairs[2] == (("s2", "f", "u", "v", "w"), "A+B")
    assert dataset[7].covariates == dict(zip(names, dataset.pairs[2][0], strict=True))
    assert {name: table.shape[1] for name, table in dataset[:].covariates.items()} == dict(
        zip(names, [2, 1, 1, 1, 1], strict=True)
    )


def test_max_control_cells_limits_each_state():
    dataset, _ = Counterfactual.from_anndata(cells(), *ARGUMENTS, max_control_cells=2, seed=1)
    batch = dataset[:]
    assert batch.groups.tolist() == [0, 0, 1, 1, 2, 2]
    assert batch.ids[:2].tolist() == CONTROLS["s1"]
    assert batch.ids[2:4].tolist() == batch.ids[4:].tolist()
    assert set(batch.ids[2:4]) < set(CONTROLS["s2"])
    again, _ = Counterfactual.from_anndata(cells(), *ARGUMENTS, max_control_cells=2, seed=1)
    assert again[:].ids.tolist() == batch.ids.tolist()
    samples = {
        tuple(Counterfactual.from_anndata(cells(), *ARGUMENTS, max_control_cells=2, seed=seed)[0][2:4].ids)
        for seed in range(20)
    }
    assert len(samples) == 3


def test_reference_rows_are_the_pairs_and_the_controls_of_their_states():
    dataset, _ = CounterfactualWithReference.from_anndata(cells(), *ARGUMENTS, desired=[(("s2",), "B+A")])
    assert list(cells().obs_names[dataset.reference_rows]) == ["c2", "b0", "c3", "c4"]


def test_pair_requested_twice_is_observed():
    queries = [(("s2",), "A+B"), (("s2",), "B+A")]
    dataset, _ = CounterfactualWithReference.from_anndata(cells(), *ARGUMENTS, desired=queries)
    assert list(cells().obs_names[dataset.reference_rows]) == ["c2", "b0", "c3", "c4"]


def test_unobserved_pair_has_no_reference():
    queries = [(("s1",), "A"), (("s1",), "A+B")]
    with pytest.raises(
        PerturbenchError, match=r"1 requested pairs have no observed cells: A\+B in \(s1\); use Counterfactual"
    ):
        CounterfactualWithReference.from_anndata(cells(), *ARGUMENTS, desired=queries)
    assert len(Counterfactual.from_anndata(cells(), *ARGUMENTS, desired=queries)[0]) == 4


def test_no_control_value():
    with pytest.raises(PerturbenchError, match="perturbation_control_value is None"):
        Counterfactual.from_anndata(cells(), "condition", "+", ["cell_type"])


def test_state_without_controls_is_named():
    adata = cells()[[row[0] not in CONTROLS["s1"] for row in ROWS]]
    with pytest.raises(PerturbenchError, match=r"no control cells in 1 of 2 states: \(s1\)"):
        Counterfactual.from_anndata(adata, *ARGUMENTS)
    dataset, _ = Counterfactual.from_anndata(adata, *ARGUMENTS, desired=[(("s2",), "A")])
    assert len(dataset) == 3


def test_unknown_state():
    with pytest.raises(
        PerturbenchError,
        match=r"1 requested pairs are in states that the data does not have: A in \(s9\); states are: \(s1\), \(s2\)",
    ):
        Counterfactual.from_anndata(cells(), *ARGUMENTS, desired=[(("s9",), "A"), (("s1",), "A")])


def test_no_pair_requested():
    with pytest.raises(PerturbenchError, match=r"no \(state, perturbation\) pair is requested"):
        Counterfactual.from_anndata(cells(), *ARGUMENTS, desired=[])


def test_unknown_perturbation_with_a_given_context():
    adata = cells()
    known = adata[(adata.obs["condition"] != "B+A").to_numpy()]
    _, context = Counterfactual.from_anndata(known, *ARGUMENTS)
    with pytest.raises(PerturbenchError, match="unknown perturbations: B; the training data has 1: A"):
        Counterfactual.from_anndata(adata, *ARGUMENTS, context=context)
    dataset, _ = Counterfactual.from_anndata(adata, *ARGUMENTS, context=context, desired=[(("s2",), "A")])
    assert dataset[:].perturbations.tolist() == [[1]] * 3


def test_missing_embedding():
    with pytest.raises(PerturbenchError, match="embedding 'X_pca' is not in obsm; obsm has: E"):
        Counterfactual.from_anndata(cells(), *ARGUMENTS, embedding_key="X_pca")
