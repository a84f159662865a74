import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest

from perturbench.data.sources import obtain, read_counts
from perturbench.errors import PerturbenchError

SIZES = {"n_cells": 60, "n_genes": 5, "n_states": 1, "n_singles": 3, "n_doubles": 0}


def test_file_that_is_there(tmp_path):
    (tmp_path / "raw.h5ad").touch()
    assert obtain("file", tmp_path / "raw.h5ad", {}, "") == tmp_path / "raw.h5ad"


def test_missing_file_says_how_to_get_it(tmp_path):
    with pytest.raises(PerturbenchError, match=r"absent\.h5ad' is not there\. Ask the neighbour for it\."):
        obtain("file", tmp_path / "absent.h5ad", {}, "Ask the neighbour for it.")


def test_unknown_kind(tmp_path):
    with pytest.raises(PerturbenchError, match=r"unknown data\.source\.kind 'url'; choose one of: file, simulation"):
        obtain("url", tmp_path / "raw.h5ad", {}, "")


def test_simulation_is_written_once(tmp_path):
    path = obtain("simulation", tmp_path / "deep/raw.h5ad", SIZES, "")
    assert read_counts(path).shape == (60, 5)
    written = path.stat().st_mtime_ns
    obtain("simulation", path, SIZES, "")
    assert path.stat().st_mtime_ns == written
    assert [file.name for file in path.parent.iterdir()] == ["raw.h5ad"]


def test_simulation_with_other_sizes_is_written_again(tmp_path):
    obtain("simulation", tmp_path / "raw.h5ad", SIZES, "")
    obtain("simulation", tmp_path / "raw.h5ad", SIZES | {"n_genes": 6}, "")
    assert read_counts(tmp_path / "raw.h5ad").shape == (60, 6)


def test_simulation_overwrites_simulations_only(tmp_path):
    path = tmp_path / "raw.h5ad"
    ad.AnnData(np.ones((2, 2)), uns={"perturbench": {"parameters": "x"}}).write_h5ad(path)
    for other in (path.read_bytes(), b"a,table\n1,2\n"):
        path.write_bytes(other)
        with pytest.raises(PerturbenchError, match="is there and is not a simulation; it is not overwritten"):
            obtain("simulation", path, SIZES, "")
        assert path.read_bytes() == other


def test_file_that_is_no_h5ad(tmp_path):
    (tmp_path / "raw.h5ad").write_text("cell,gene\n")
    with pytest.raises(PerturbenchError, match=r"raw\.h5ad' cannot be read as h5ad: "):
        read_counts(tmp_path / "raw.h5ad")


def test_truncated_h5ad(tmp_path, screen):
    screen.write_h5ad(tmp_path / "raw.h5ad")
    whole = (tmp_path / "raw.h5ad").read_bytes()
    (tmp_path / "raw.h5ad").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PerturbenchError, match=r"raw\.h5ad' cannot be read as h5ad: "):
        read_counts(tmp_path / "raw.h5ad")


@pytest.mark.filterwarnings("ignore:Element '/table' was written without encoding")
def test_h5_file_of_something_else(tmp_path):
    with h5py.File(tmp_path / "raw.h5ad", "w") as file:
        file["table"] = np.zeros(3)
    with pytest.raises(PerturbenchError, match=r"raw\.h5ad' cannot be read as h5ad: "):
        read_counts(tmp_path / "raw.h5ad")


def test_h5ad_without_counts(tmp_path):
    ad.AnnData(obs=pd.DataFrame(index=["c0", "c1"])).write_h5ad(tmp_path / "raw.h5ad")
    with pytest.raises(PerturbenchError, match=r"raw\.h5ad"):
        read_counts(tmp_path / "raw.h5ad")


def test_layer_becomes_the_counts(tmp_path):
    counts = np.arange(6.0).reshape(2, 3)
    ad.AnnData(np.log1p(counts), layers={"raw": counts, "other": counts}).write_h5ad(tmp_path / "raw.h5ad")
    adata = read_counts(tmp_path / "raw.h5ad", "raw")
    assert np.array_equal(adata.X, counts)
    assert not adata.layers
    assert np.array_equal(read_counts(tmp_path / "raw.h5ad").X, np.log1p(counts))


def test_unknown_layer_names_those_there_are(tmp_path):
    ad.AnnData(np.ones((2, 3)), layers={"raw": np.ones((2, 3))}).write_h5ad(tmp_path / "raw.h5ad")
    with pytest.raises(PerturbenchError, match=r"layer 'counts' is not in '.*raw\.h5ad'; layers are: raw"):
        read_counts(tmp_path / "raw.h5ad", "counts")
