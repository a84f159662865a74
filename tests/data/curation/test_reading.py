"""Only the remaining cells and genes are read, whatever form the matrix has on disk."""

import tracemalloc

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from perturbench.data.curation import Layout, curate_file
from perturbench.data.curation.reading import Source
from perturbench.data.groups import Keys
from perturbench.errors import PerturbenchError

KEEP = Layout("own", steps=({"keep_values": {"column": "condition", "values": ["control", "P1"]}},))
PLAIN = Layout("own")


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, lambda x: x.toarray()])
def test_forms_of_the_matrix(tmp_path, screen, form, monkeypatch):
    monkeypatch.setattr("perturbench.data.curation.reading._ROWS", 100)
    x = screen.X
    screen.X = form(x)
    screen.write_h5ad(tmp_path / "s.h5ad")
    adata = curate_file(tmp_path / "s.h5ad", [KEEP], Keys())
    kept = screen.obs["condition"].isin(["control", "P1"]).to_numpy()
    assert np.array_equal(adata.X.toarray(), x[kept].toarray())
    assert sp.isspmatrix_csr(adata.X)
    assert adata.X.dtype == np.float32
    assert list(adata.obs_names) == list(screen.obs_names[kept])


def test_embeddings_and_effects_follow_the_cells_and_genes(tmp_path, screen):
    screen.obsm["X_scgpt"] = np.arange(screen.n_obs)[:, None] * np.ones((1, 2))
    screen.write_h5ad(tmp_path / "s.h5ad")
    layout = Layout("own", steps=(*KEEP.steps, {"keep_genes": {"column": "name", "prefix": "G1"}}))
    screen.var.index.name = "name"
    screen.write_h5ad(tmp_path / "s.h5ad")
    adata = curate_file(tmp_path / "s.h5ad", [layout], Keys())
    assert adata.obsm["X_scgpt"][:, 0].tolist() == [screen.obs_names.get_loc(name) for name in adata.obs_names]
    assert adata.varm["effects"].equals(screen.varm["effects"].loc[adata.var_names])


def test_dropped_cells_cost_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("perturbench.data.curation.reading._ROWS", 256)
    x = sp.random(5000, 2000, 0.05, format="csr", random_state=0, dtype=np.float32)
    x.data[:] = 1
    few = np.arange(5000) % 50 == 0
    obs = pd.DataFrame({"condition": np.where(few, "control", "A"), "cell_type": "s"})
    obs.index = obs.index.astype(str)
    ad.AnnData(x, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(2000)])).write_h5ad(tmp_path / "big.h5ad")
    keep = Layout("own", steps=({"keep_values": {"column": "condition", "values": ["control"]}},))
    tracemalloc.start()
    adata = curate_file(tmp_path / "big.h5ad", [keep], Keys())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert adata.n_obs == few.sum()
    assert peak < 0.4 * x.nnz * 8


def test_layer_becomes_the_counts(tmp_path):
    counts = np.array([[0.0, 1, 2], [3, 4, 5]])
    obs = pd.DataFrame({"condition": ["control", "A"], "cell_type": "s"}, index=["c0", "c1"])
    ad.AnnData(np.log1p(counts), obs=obs, layers={"raw": counts, "other": counts}).write_h5ad(tmp_path / "raw.h5ad")
    adata = curate_file(tmp_path / "raw.h5ad", [Layout("own", counts_layer="raw")], Keys())
    assert np.array_equal(adata.X.toarray(), counts)
    assert not adata.layers
    with pytest.raises(PerturbenchError, match="values of X are not whole"):
        curate_file(tmp_path / "raw.h5ad", [PLAIN], Keys())


def test_unknown_layer_names_those_there_are(tmp_path):
    ad.AnnData(np.ones((2, 3)), layers={"raw": np.ones((2, 3))}).write_h5ad(tmp_path / "raw.h5ad")
    with pytest.raises(PerturbenchError, match=r"layer 'counts' is not in 'raw\.h5ad'; layers are: raw"):
        curate_file(tmp_path / "raw.h5ad", [Layout("own", counts_layer="counts")], Keys())


def test_h5ad_without_counts(tmp_path):
    ad.AnnData(obs=pd.DataFrame(index=["c0", "c1"])).write_h5ad(tmp_path / "raw.h5ad")
    with pytest.raises(PerturbenchError, match=r"'raw\.h5ad' has no X; raw counts must be there"):
        curate_file(tmp_path / "raw.h5ad", [PLAIN], Keys())


@pytest.mark.filterwarnings("ignore:Element '/table' was written without encoding")
def test_files_that_are_no_h5ad(tmp_path, screen):
    path = tmp_path / "raw.h5ad"
    with pytest.raises(PerturbenchError, match=r"raw\.h5ad' does not exist"):
        Source(path)
    path.write_text("cell,gene\n")
    with pytest.raises(PerturbenchError, match=r"raw\.h5ad' cannot be read as h5ad: "):
        Source(path)
    path.unlink()
    with h5py.File(path, "w") as file:
        file["table"] = np.zeros(3)
    with pytest.raises(PerturbenchError, match=r"cannot be read as h5ad: it has no tables obs and var"):
        Source(path)
    screen.write_h5ad(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(PerturbenchError, match=r"raw\.h5ad' cannot be read as h5ad: "):
        Source(path)


def test_folders(tmp_path, screen):
    with pytest.raises(PerturbenchError, match="has no h5ad file"):
        Source(tmp_path)
    screen[:, [0, 1, 1]].write_h5ad(tmp_path / "a.h5ad")
    screen[:, [0, 1]].write_h5ad(tmp_path / "b.h5ad")
    with pytest.raises(PerturbenchError, match=r"files of .* cannot be joined: gene names repeat: G2"):
        curate_file(tmp_path, [PLAIN], Keys())
