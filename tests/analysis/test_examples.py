"""Predicted pairs in detail: which ones are shown, and their cells and genes."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from tests.analysis.predictions import KEYS, perturbed_cells

from perturbench.analysis import examples as module
from perturbench.analysis.examples import Choice, choose_pairs, log_fold_change, make_examples
from perturbench.analysis.metrics.registry import find_metric
from perturbench.errors import PerturbenchError

RMSE, COSINE = find_metric("rmse_average"), find_metric("cosine_logfc")


def make_scores(values, metric="rmse_average", seed=0):
    rows = [("m", seed, metric, name, "s", value) for name, value in values.items()]
    return pd.DataFrame(rows, columns=["model", "seed", "metric", "perturbation", "cell_type", "value"])


def shown(choices):
    return {choice.why: choice.pair[1] for choice in choices}


def test_the_best_the_median_and_the_worst_are_shown():
    values = {"A": 0.3, "B": 0.1, "C": 0.5, "D": 0.2, "E": 0.4, "F": float("nan")}
    assert shown(choose_pairs(make_scores(values), RMSE)) == {"best": "B", "median": "A", "worst": "C"}
    cosines = make_scores(values, "cosine_logfc")
    assert shown(choose_pairs(cosines, COSINE)) == {"best": "C", "median": "A", "worst": "B"}
    assert choose_pairs(make_scores(values), RMSE)[0] == Choice((("s",), "B"), "best", 0.1)


def test_seeds_are_averaged_and_ties_are_broken_by_name():
    scores = pd.concat([make_scores({"A": 0.1, "B": 0.2}), make_scores({"A": 0.5, "B": 0.2}, seed=1)])
    assert shown(choose_pairs(scores, RMSE)) == {"best": "B", "worst": "A"}
    assert shown(choose_pairs(make_scores({"B": 0.2, "C": 0.2, "A": 0.2}), RMSE))["best"] == "A"


def test_fewer_than_three_pairs():
    assert shown(choose_pairs(make_scores({"A": 0.1}), RMSE)) == {"best": "A"}
    assert choose_pairs(make_scores({"A": float("nan")}), RMSE) == []


def test_a_user_chooses_perturbations():
    scores = make_scores({"A": 0.3, "B": 0.1, "C": 0.5})
    assert [choice.pair[1] for choice in choose_pairs(scores, RMSE, ["C", "B"])] == ["B", "C"], "best first"
    with pytest.raises(PerturbenchError, match=r"reporting.examples names .* without a score: X; choose some of: A, B"):
        choose_pairs(scores, RMSE, ["X"])
    many = make_scores({f"P{i}": i for i in range(20)})
    assert len(choose_pairs(many, RMSE, [f"P{i}" for i in range(20)])) == module.MAX_EXAMPLES


@pytest.fixture
def choices():
    return [Choice((("s",), "A"), "best", 0.1), Choice((("t",), "A+B"), "worst", 0.9)]


def test_cells_and_means_are_those_of_the_pair(observed, predicted, choices):
    reordered = perturbed_cells(predicted)[:, ::-1].copy()
    evaluated = np.flatnonzero(np.arange(observed.n_obs) % 6 != 0)
    first, second = make_examples(observed, evaluated, reordered, choices, KEYS)
    assert (first.name, first.why, first.value) == ("A in (s)", "best", 0.1)
    assert first.cells["kind"].value_counts().to_dict() == {"predicted": 6, "control": 5, "observed": 5}
    for example, (state, name) in ((first, ("s", "A")), (second, ("t", "A+B"))):
        genes = example.genes.set_index("gene").loc[observed.var_names]
        used = observed[evaluated]
        for side, cells in (("observed", used), ("predicted", predicted)):
            of_pair = cells[(cells.obs["condition"] == name) & (cells.obs["cell_type"] == state)]
            assert genes[side].to_numpy() == pytest.approx(of_pair.X.toarray().mean(axis=0), abs=1e-6)
        controls = used[(used.obs["condition"] == "control") & (used.obs["cell_type"] == state)]
        assert genes["control"].to_numpy() == pytest.approx(controls.X.toarray().mean(axis=0), abs=1e-6)
        changes = log_fold_change(example.genes, "observed").abs().to_numpy()
        assert (np.diff(changes) <= 0).all()


def test_scanpy_separates_cells_that_differ(observed, choices):
    """Observed cells that are moved far away are apart from the controls along the first component."""
    moved = observed.copy()
    moved.X = moved.X.toarray() + 30 * (moved.obs["condition"] != "control").to_numpy()[:, None]
    example = make_examples(moved, np.arange(moved.n_obs), perturbed_cells(observed), choices[:1], KEYS)[0]
    x = example.cells.groupby("kind")["x"]
    assert (x.min()["observed"] > x.max()["control"] + 20) or (x.max()["observed"] < x.min()["control"] - 20)


def test_examples_are_the_same_every_time_and_bounded(observed, predicted, choices, monkeypatch):
    monkeypatch.setattr(module, "MAX_CELLS", 3)
    monkeypatch.setattr(module, "MAX_GENES", 6)
    rows = np.arange(observed.n_obs)
    first, again = (make_examples(observed, rows, perturbed_cells(predicted), choices, KEYS)[0] for _ in range(2))
    pd.testing.assert_frame_equal(first.cells, again.cells)
    assert set(first.cells["kind"].value_counts()) == {3}
    assert len(first.genes) == 6


def test_pseudobulks_have_no_examples(observed, predicted, choices):
    bulk = perturbed_cells(predicted)
    bulk = bulk[~bulk.obs.duplicated()].copy()
    assert make_examples(observed, np.arange(observed.n_obs), bulk, choices, KEYS) == []


def test_files_are_read_like_cells_in_memory(observed, predicted, choices, tmp_path):
    """Only the rows of the pairs are read of a file."""
    perturbed = perturbed_cells(predicted)
    in_memory = make_examples(observed, np.arange(observed.n_obs), perturbed, choices, KEYS)
    observed.write_h5ad(tmp_path / "observed.h5ad")
    perturbed.X = perturbed.X.toarray()
    perturbed.write_h5ad(tmp_path / "predicted.h5ad")
    files = [ad.read_h5ad(tmp_path / f"{name}.h5ad", backed="r") for name in ("observed", "predicted")]
    for one, other in zip(
        in_memory, make_examples(files[0], np.arange(observed.n_obs), files[1], choices, KEYS), strict=True
    ):
        pd.testing.assert_frame_equal(one.genes, other.genes, check_exact=False)
        pd.testing.assert_frame_equal(one.cells, other.cells, check_exact=False, atol=1e-3)


def test_umap(observed, predicted, choices, monkeypatch):
    """Importing and compiling UMAP takes 10 seconds, so that stand-ins take the place of scanpy's functions."""

    def neighbors(adata, random_state):
        adata.uns["neighbors of"] = adata.obsm["X_pca"].shape

    def umap(adata, random_state):
        assert adata.uns["neighbors of"] == (18, 11), "12 genes have at most 11 principal components"
        adata.obsm["X_umap"] = np.column_stack([np.arange(18.0), np.full(18, random_state)])

    monkeypatch.setattr("scanpy.pp.neighbors", neighbors)
    monkeypatch.setattr("scanpy.tl.umap", umap)
    example = make_examples(observed, np.arange(60), perturbed_cells(predicted), choices[:1], KEYS, "umap")[0]
    assert example.cells["x"].tolist() == list(range(18))
    assert set(example.cells["y"]) == {0}
