"""Principal components of the cells, fitted on training cells."""

import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp

from perturbench.errors import PerturbenchError
from perturbench.preprocessing import prepare
from perturbench.preprocessing.embeddings import pca, pca_embeddings

TRAIN = np.arange(0, 200)


@pytest.fixture
def cells(screen, keys):
    return prepare(screen, keys)


def test_the_components_are_scanpys(cells):
    embedding = pca_embeddings(cells.X, np.arange(cells.n_obs), 5)
    sc.pp.pca(cells, n_comps=5, svd_solver="arpack")
    expected = cells.obsm["X_pca"]
    signs = np.sign((embedding * expected).sum(axis=0))
    np.testing.assert_allclose(embedding, signs * expected, atol=1e-4)
    assert embedding.dtype == np.float32


def test_cells_outside_of_training_do_not_change_the_components(cells):
    before = pca_embeddings(cells.X, TRAIN, 5)
    changed = cells.X.tolil()
    changed[200:] = changed[200:][::-1] * 3
    after = pca_embeddings(sp.csr_matrix(changed), TRAIN, 5)
    assert np.array_equal(before[TRAIN], after[TRAIN])
    assert not np.array_equal(before[200:], after[200:])
    np.testing.assert_allclose(before[TRAIN].mean(axis=0), 0, atol=1e-5)
    assert np.abs(before[200:].mean(axis=0)).max() > 1e-3, "all cells are centred as the training cells are"


def test_signs_seeds_and_blocks_do_not_matter(cells, monkeypatch):
    embedding = pca_embeddings(cells.X, TRAIN, 5)
    assert np.array_equal(pca_embeddings(cells.X, TRAIN, 5), embedding)
    np.testing.assert_allclose(pca_embeddings(cells.X, TRAIN, 5, seed=1), embedding, atol=1e-4)
    monkeypatch.setattr(pca, "_ROWS", 7)
    np.testing.assert_allclose(pca_embeddings(cells.X, TRAIN, 5), embedding, atol=1e-6)
    loadings = np.linalg.lstsq(cells.X[TRAIN].toarray() - cells.X[TRAIN].toarray().mean(axis=0), embedding[TRAIN])[0].T
    assert (loadings[np.arange(5), np.abs(loadings).argmax(axis=1)] > 0).all()


def test_too_many_components(cells):
    n_genes = cells.n_vars
    with pytest.raises(PerturbenchError, match=rf"n_components is 60; 200 training cells and {n_genes} genes have at"):
        pca_embeddings(cells.X, TRAIN, 60)
    with pytest.raises(PerturbenchError, match=r"n_components is 5; 5 training cells .* at most 4"):
        pca_embeddings(cells.X, np.arange(5), 5)
