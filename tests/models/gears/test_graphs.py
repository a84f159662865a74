"""The graphs of GEARS, and the GO annotation that one of them is made of."""

import gzip
import pickle

import numpy as np
import pandas as pd
import pytest
from tests.models.gears.small_gears import write_table

from perturbench.data.loading.cell_matrix import CellMatrix
from perturbench.errors import PerturbenchError
from perturbench.models.gears.graphs import coexpression, go_similarity, read_gene2go, strongest_edges


@pytest.fixture
def scores():
    scores = np.array([[1, 0.9, 0.2, 0.5], [0.9, 1, 0.3, 0.1], [0.2, 0.3, 1, 0.6], [0.5, 0.1, 0.6, 1]])
    return scores


def test_strongest_edges(scores):
    edges, weights = strongest_edges(scores, k=1, threshold=0.4)
    assert edges.tolist() == [[0, 1, 1, 0, 2, 3, 3, 2], [0, 0, 1, 1, 2, 2, 3, 3]]
    assert weights.tolist() == pytest.approx([1, 0.9, 1, 0.9, 1, 0.6, 1, 0.6])
    assert strongest_edges(scores, k=1, threshold=0.7)[1].tolist() == pytest.approx([1, 0.9, 1, 0.9, 1, 0, 1, 0])


def test_more_edges_than_nodes(scores):
    edges, _ = strongest_edges(scores, k=10, threshold=0.0)
    assert edges.shape == (2, 16)


def test_coexpression_is_absolute_pearson_correlation(module):
    rows = module.rows["train"]
    constant = module.adata.copy()
    constant.X = constant.X.toarray()
    constant.X[:, 3] = 1.5
    found = coexpression(CellMatrix(constant), rows)
    with np.errstate(invalid="ignore"):
        expected = np.abs(np.nan_to_num(np.corrcoef(constant.X[rows].T.astype(float))))
    assert found == pytest.approx(expected, abs=1e-5)
    assert not found[3].any()


def test_go_similarity_is_the_jaccard_index(tmp_path):
    terms = {"A": {"GO:1", "GO:2"}, "B": {"GO:2", "GO:3", "GO:4"}, "other": {"GO:1"}}
    gene2go = read_gene2go(write_table(tmp_path / "go.tsv", terms))
    assert go_similarity(gene2go, ["A", "B", "none"]).tolist() == [[1, 0.25, 0], [0.25, 1, 0], [0, 0, 0]]


def test_formats_are_the_same(gene2go, annotation, tmp_path):
    table = read_gene2go(gene2go)
    text = open(gene2go).read()
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "bare.tsv").write_text("!a comment\n" + text.partition("\n")[2] + "P1\tGO:1\n" * 2)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(annotation))
    (tmp_path / "old.pkl").write_bytes(pickle.dumps(annotation, protocol=2))
    for name in ("a.tsv.gz", "a.pkl", "old.pkl"):
        pd.testing.assert_frame_equal(read_gene2go(tmp_path / name), table)
    assert len(read_gene2go(tmp_path / "bare.tsv")) == len(table) + 1


@pytest.mark.parametrize("text", ["", "gene,go\nP1,GO:1\n", "P1\n", "P1\tbiological process\n", "\x00\x01\tGO"])
def test_table_of_something_else(tmp_path, text):
    (tmp_path / "go.tsv").write_text(text)
    with pytest.raises(PerturbenchError, match=r"go.tsv'.*GEARS needs a GO annotation"):
        read_gene2go(tmp_path / "go.tsv")


@pytest.mark.parametrize("value", [print, [1, 2], {"P1": 3}, np.arange(3)])
def test_pickle_of_something_else(tmp_path, value):
    (tmp_path / "go.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(PerturbenchError, match=r"go.pkl' cannot be read.*GEARS needs a GO annotation"):
        read_gene2go(tmp_path / "go.pkl")
