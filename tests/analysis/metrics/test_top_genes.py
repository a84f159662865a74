"""Metrics of the genes that change most."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from tests.analysis.predictions import KEYS, predict_means, predict_observed, values_of

from perturbench.analysis import evaluate
from perturbench.analysis.metrics import top_genes as module
from perturbench.analysis.metrics.t_test import t_test
from perturbench.analysis.metrics.top_genes import jaccard, top_genes, top_k_recall
from perturbench.analysis.profiles import Prediction, Reference
from perturbench.errors import PerturbenchError

GENES = pd.Index(["d", "c", "b", "a"])


def test_top_genes_by_hand():
    scores = np.array([[1, -3, 2, 0], [2, 2, -2, 2], [0, 0, 0, 1], [np.nan] * 4])
    # Ties go to the names that come first: a and b. A score of 0 is never a top gene.
    expected = [["c", "b"], ["b", "a"], ["a"], []]
    assert [list(GENES[row]) for row in top_genes(scores, 2, GENES)] == expected


def test_recall_by_hand():
    observed = np.array([[4, 3, 2, 1.0], [4, 3, 2, 1], [0, 0, 0, 5], [0, 0, 0, 0], [np.nan] * 4])
    predicted = np.array([[4, 1, -5, 0.0], [0, 0, 0, 0], [1, 1, 1, 9], [1, 1, 1, 1], [1, 1, 1, 1]])
    # The third pair has one changed gene only, and the fourth none, so that there is nothing to recall.
    assert top_k_recall(observed, predicted, GENES, 2) == pytest.approx([0.5, 0, 1, np.nan, np.nan], nan_ok=True)


def test_jaccard_by_hand():
    masks = np.array([[1, 1, 0], [0, 1, 1], [0, 0, 0], [0, 0, 0]], dtype=bool)
    assert jaccard(masks) == pytest.approx(
        np.array([[1, 1 / 3, 0, 0], [1 / 3, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], dtype=float)
    )


@pytest.fixture
def apart():
    """Return cells of one state in which A changes genes 0 and 1, B changes 1 and 2, and C changes 3."""
    changed = {"A": (0, 1), "B": (1, 2), "C": (3,), "control": ()}
    names = [name for name in changed for _ in range(4)]
    x = np.tile(np.array([[1, 1.5], [1.5, 1], [1, 1.5], [1.5, 1]]).repeat(2, axis=1), (4, 1))
    for row, name in enumerate(names):
        x[row, list(changed[name])] += 5
    obs = pd.DataFrame({"condition": names, "cell_type": "s"}, [f"c{i}" for i in range(16)])
    return ad.AnnData(sp.csr_matrix(x.astype(np.float32)), obs=obs)


def renamed(cells, names, reference):
    other = cells[cells.obs["condition"].isin(list(names))].copy()
    other.obs["condition"] = other.obs["condition"].astype(str).map(names)
    return Prediction.from_adata(other, reference, "renamed")


def test_de_jaccard_error_by_hand(apart):
    """Observed: J(A, B) = 1/3, J(A, C) = J(B, C) = 0."""
    reference = Reference(apart, KEYS)
    assert values_of(predict_observed(apart, reference), reference, "de_jaccard_error") == pytest.approx([0, 0, 0])
    # C takes the place of A: now J(B, C) = 1/3, and J(A, B) = J(A, C) = 0.
    exchanged = renamed(apart, {"A": "C", "B": "B", "C": "A"}, reference)
    third = 1 / 3
    assert values_of(exchanged, reference, "de_jaccard_error") == pytest.approx([third / 2, third, third / 2])


def test_a_collapsed_model_has_a_jaccard_similarity_of_one(apart):
    reference = Reference(apart, KEYS)
    parts = [apart[:4].copy() for _ in range(3)]
    for part, name in zip(parts, "ABC", strict=True):
        part.obs["condition"] = name
    collapsed = Prediction.from_adata(ad.concat(parts, index_unique="-"), reference, "collapsed")
    # Every predicted similarity is 1: 2/3 too much for A and B, and 1 too much with C.
    expected = [(2 / 3 + 1) / 2, (2 / 3 + 1) / 2, 1]
    assert values_of(collapsed, reference, "de_jaccard_error") == pytest.approx(expected)


def test_one_perturbation_in_a_state_has_nobody_to_resemble(apart):
    one = apart[apart.obs["condition"].isin(["A", "control"])].copy()
    reference = Reference(one, KEYS)
    assert np.isnan(values_of(predict_observed(one, reference), reference, "de_jaccard_error")).all()


def test_metrics_of_top_genes_by_hand(apart, monkeypatch):
    monkeypatch.setattr(module, "TOP_DE", 2)
    reference = Reference(apart, KEYS)
    means = reference.means.copy()
    means[:, :2] += [3.0, 4.0]  # A's top genes are 0 and 1, B's are 1 and 2, C's only one is 3
    prediction = predict_means(reference, means)
    assert values_of(prediction, reference, "rmse_average_top_de") == pytest.approx([np.sqrt(12.5), np.sqrt(8), 0])
    assert values_of(prediction, reference, "mae_average_top_de") == pytest.approx([3.5, 2, 0])
    changes = np.log2((means + 0.1) / (reference.control_means + 0.1))
    true = np.log2((reference.means + 0.1) / (reference.control_means + 0.1))
    a, b = changes[0, :2], true[0, :2]
    expected = (a @ b) / np.linalg.norm(a) / np.linalg.norm(b)
    assert values_of(prediction, reference, "cosine_logfc_top_de")[0] == pytest.approx(expected)


def test_top_genes_of_the_observed_cells_are_compared(cells, reference):
    """Errors in all other genes do not count, whatever the prediction changes most."""
    top = top_genes(t_test(reference, reference).scores, module.TOP_DE, reference.genes)
    means = np.where(top, reference.means, 100.0)
    prediction = predict_means(reference, means)
    assert values_of(prediction, reference, "rmse_average_top_de") == pytest.approx(np.zeros(len(means)))
    assert (values_of(prediction, reference, "rmse_average") > 50).all()


def test_pseudobulks_have_metrics_of_top_genes_only(observed, predicted):
    """The observed cells choose the genes; the other metrics of this file test predicted cells."""
    reference = Reference(observed, KEYS)
    bulk = ad.AnnData(reference.means.astype(np.float32), var=observed.var)
    bulk.obs["condition"] = [condition for _, condition in reference.pairs]
    bulk.obs["cell_type"] = [state[0] for state, _ in reference.pairs]
    result = evaluate({"bulk": bulk}, observed, metrics=["rmse_average_top_de"])
    assert result.summary["rmse_average_top_de"].tolist() == pytest.approx([0], abs=1e-6)
    means_only = predict_means(reference, reference.means)
    for name in ("top_k_recall_scores", "de_jaccard_error"):
        with pytest.raises(PerturbenchError, match="needs single cells, but 'attack' has only the mean of each pair"):
            values_of(means_only, reference, name)
