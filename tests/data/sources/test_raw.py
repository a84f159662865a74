import anndata as ad
import numpy as np
import pytest

from perturbench.data.sources.raw import obtain, read_cells
from perturbench.errors import PerturbenchError

SIZES = {"n_cells": 60, "n_genes": 5, "n_states": 1, "n_singles": 3, "n_doubles": 0}


def test_existing_file(tmp_path):
    (tmp_path / "raw.h5ad").touch()
    assert obtain("file", tmp_path / "raw.h5ad", {}, "") == tmp_path / "raw.h5ad"


def test_missing_file_says_how_to_get_it(tmp_path):
    with pytest.raises(PerturbenchError, match=r"absent\.h5ad' does not exist\. Ask the neighbour for it\."):
        obtain("file", tmp_path / "absent.h5ad", {}, "Ask the neighbour for it.")


def test_unknown_kind(tmp_path):
    with pytest.raises(PerturbenchError, match=r"unknown data\.source\.kind 'url'; choose one of: file, simulation"):
        obtain("url", tmp_path / "raw.h5ad", {}, "")


def test_simulation_is_written_once(tmp_path):
    path = obtain("simulation", tmp_path / "deep/raw.h5ad", SIZES, "")
    assert read_cells(path).shape == (60, 5)
    written = path.stat().st_mtime_ns
    obtain("simulation", path, SIZES, "")
    assert path.stat().st_mtime_ns == written
    assert [file.name for file in path.parent.iterdir()] == ["raw.h5ad"]


def test_simulation_with_other_sizes_is_written_again(tmp_path):
    obtain("simulation", tmp_path / "raw.h5ad", SIZES, "")
    obtain("simulation", tmp_path / "raw.h5ad", SIZES | {"n_genes": 6}, "")
    assert read_cells(tmp_path / "raw.h5ad").shape == (60, 6)


def test_simulation_overwrites_simulations_only(tmp_path):
    path = tmp_path / "raw.h5ad"
    ad.AnnData(np.ones((2, 2)), uns={"perturbench": {"parameters": "x"}}).write_h5ad(path)
    for other in (path.read_bytes(), b"a,table\n1,2\n"):
        path.write_bytes(other)
        with pytest.raises(PerturbenchError, match="exists and is not a simulation, so it is not overwritten"):
            obtain("simulation", path, SIZES, "")
        assert path.read_bytes() == other


def test_folder_of_files(tmp_path):
    assert obtain("file", tmp_path, {}, "") == tmp_path


def test_file_that_is_not_h5ad(tmp_path):
    (tmp_path / "raw.h5ad").write_text("cell,gene\n")
    with pytest.raises(PerturbenchError, match=r"raw\.h5ad' cannot be read as h5ad: "):
        read_cells(tmp_path / "raw.h5ad")
