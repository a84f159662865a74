"""Fixtures: small blocks of cells, and cells backed by a file."""

import anndata as ad
import pytest

from perturbench.preprocessing import normalisation


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(normalisation, "_ROWS", 170)


@pytest.fixture
def backed(tmp_path):
    """Return a function that writes cells to a file and opens it."""

    def write(adata):
        adata.write_h5ad(tmp_path / "curated.h5ad")
        return ad.read_h5ad(tmp_path / "curated.h5ad", backed="r")

    return write
