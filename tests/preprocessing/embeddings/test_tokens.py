"""Token sequences for scGPT."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from perturbench.preprocessing.embeddings.tokens import cell_seeds, tokenise

CLS, PAD, PAD_VALUE = 1000, 1001, -2.0
SPECIAL = {"cls_token": CLS, "pad_token": PAD, "pad_value": PAD_VALUE}


@pytest.fixture
def counts():
    """300 cells of 80 genes, with many ties, some cells nearly or entirely empty."""
    draw = np.random.default_rng(0)
    counts = draw.negative_binomial(1, 0.2, (300, 80)) * (draw.random((300, 80)) < np.linspace(0, 1, 300)[:, None])
    return sp.csr_matrix(counts.astype(np.float32))


@pytest.fixture
def seeds():
    return cell_seeds(pd.Index([f"cell{number}" for number in range(300)]))


def test_every_expressed_gene_has_one_token(counts, seeds):
    genes = np.arange(80) + 5
    tokens = tokenise(counts, genes, seeds, **SPECIAL)
    assert (tokens.genes[:, 0] == CLS).all()
    assert (tokens.values[:, 0] == PAD_VALUE).all()
    for row, length in enumerate(tokens.lengths):
        assert set(tokens.genes[row, 1:length]) == set(genes[counts[row].indices])
        assert (tokens.genes[row, length:] == PAD).all()
        assert (tokens.values[row, length:] == PAD_VALUE).all()


def test_bins_equal_quantiles_of_numpy(counts, seeds):
    """A value between two edges has one bin; a value that equals several edges has any bin between them."""
    tokens = tokenise(counts, np.arange(80), seeds, **SPECIAL)
    spread = 0
    for row, length in enumerate(tokens.lengths):
        if length == 1:
            continue
        values = counts[row].toarray()[0, tokens.genes[row, 1:length]]
        edges = np.quantile(values[values > 0], np.linspace(0, 1, 50))
        bins = tokens.values[row, 1:length]
        first, last = np.digitize(values, edges, right=True), np.digitize(values, edges)
        assert ((bins > first) & (bins <= last) | (first == last) & (bins == last)).all()
        assert ((bins >= 1) & (bins <= 50)).all()
        spread += np.ptp(bins[values == values.min()]) > 5
    assert spread > 150, "tied values spread over the bins that they span"


def test_genes_of_long_cells_are_sampled_uniformly(seeds):
    counts = sp.csr_matrix(np.ones((3000, 20), dtype=np.float32))
    seeds = cell_seeds(pd.Index(np.arange(3000).astype(str)))
    tokens = tokenise(counts, np.arange(20), seeds, max_length=6, **SPECIAL)
    assert tokens.genes.shape == (3000, 6)
    assert (tokens.lengths == 6).all()
    assert all(len(set(row)) == 6 for row in tokens.genes)
    share = np.bincount(tokens.genes[:, 1:].ravel(), minlength=20) / 3000
    assert np.abs(share - 0.25).max() < 0.04  # five standard errors


def test_bins_of_ties_are_uniform_and_independent_of_the_sample(seeds):
    counts = sp.csr_matrix(np.ones((300, 100), dtype=np.float32))
    bins = tokenise(counts, np.arange(100), seeds, max_length=51, **SPECIAL).values[:, 1:]
    assert set(bins.ravel()) == set(range(1, 51))
    assert abs(bins.mean() - 25.5) < 0.6
    assert abs(np.corrcoef(bins.ravel(), np.tile(np.arange(50), 300))[0, 1]) < 0.04


def test_stored_zeros_are_not_expression(counts, seeds):
    stored = counts.copy()
    stored.data[::3] = 0
    clean = stored.copy()
    clean.eliminate_zeros()
    one, other = (tokenise(x, np.arange(80), seeds, **SPECIAL) for x in (stored, clean))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert (stored.data == 0).any(), "the input is not changed"


def test_no_cell_and_empty_cells(seeds):
    empty = tokenise(sp.csr_matrix((4, 80)), np.arange(80), seeds[:4], **SPECIAL)
    assert empty.genes.tolist() == [[CLS]] * 4
    assert empty.lengths.tolist() == [1] * 4
    assert tokenise(sp.csr_matrix((0, 80)), np.arange(80), seeds[:0], **SPECIAL).genes.shape == (0, 1)


def test_seeds_depend_on_name_and_seed(seeds):
    assert len(set(seeds)) == 300
    assert np.array_equal(cell_seeds(pd.Index(["cell7", "x"]))[:1], seeds[7:8])
    assert not set(cell_seeds(pd.Index(["cell7"]), seed=1)) & set(seeds)
