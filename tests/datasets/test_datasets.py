"""Catalog dataset types."""

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from kedro.io import DataCatalog, Version
from kedro.io.core import DatasetError

from perturbench.datasets import (
    AnnDataDataset,
    CheckpointDataset,
    CSVDataset,
    OptionalPartitionedDataset,
    ParquetDataset,
    TableDataset,
)
from perturbench.provenance import Stamp


def cells(n=20):
    obs = pd.DataFrame({"condition": ["a"] * n}, index=[f"c{i}" for i in range(n)])
    return ad.AnnData(np.ones((n, 3), "float32"), obs=obs)


def test_anndata_round_trip_and_preview(tmp_path):
    dataset = AnnDataDataset(filepath=str(tmp_path / "deep/x.h5ad"), load_args={"backed": "r"})
    assert not dataset.exists()
    dataset.save(cells())
    loaded = dataset.load()
    assert loaded.isbacked
    assert loaded.shape == (20, 3)
    assert dataset.preview(2)["columns"] == ["index", "condition"]
    assert len(dataset.preview(2)["data"]) == 2


@pytest.mark.parametrize(
    ("x", "compression"),
    [(np.full((9, 4), 0.5, "float32"), None), (np.eye(9, dtype="float32"), "gzip"), (sp.eye(9, format="csr"), "gzip")],
    ids=["dense", "mostly zero", "sparse"],
)
def test_matrices_without_zeros_are_not_compressed(tmp_path, x, compression):
    AnnDataDataset(filepath=str(tmp_path / "x.h5ad")).save(ad.AnnData(x))
    with h5py.File(tmp_path / "x.h5ad") as h5:
        assert (h5["X/data"] if sp.issparse(x) else h5["X"]).compression == compression


def test_cells_that_several_nodes_need_are_read_once(tmp_path):
    dataset = AnnDataDataset(filepath=str(tmp_path / "x.h5ad"))
    dataset.save(cells())
    assert dataset.load() is not dataset.load()
    dataset.keep_loaded(True)
    assert dataset.load() is dataset.load()
    dataset.save(cells(5))
    assert dataset.load().n_obs == 5
    dataset.keep_loaded(False)
    assert dataset.load() is not dataset.load()


def test_anndata_versions(tmp_path):
    dataset = AnnDataDataset(filepath=str(tmp_path / "x.h5ad"), version=Version(None, None))
    dataset.save(cells())
    dataset.save(cells(5))
    assert dataset.load().n_obs == 5
    assert len(dataset.list_versions()) == 2


def test_anndata_on_another_filesystem():
    dataset = AnnDataDataset(filepath="memory://bucket/x.h5ad")
    dataset.save(cells())
    assert dataset.load().n_obs == 20
    assert len(dataset.preview(3)["data"]) == 3
    with pytest.raises(DatasetError, match="backed mode needs a local file"):
        AnnDataDataset(filepath="memory://bucket/x.h5ad", load_args={"backed": "r"})


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_are_what_their_name_ends_with(tmp_path, suffix):
    table = pd.DataFrame({"condition": ["NA", "a,b"], "day": ["02", "3"]})
    for path in (f"{tmp_path}/x.{suffix}", f"memory://bucket/x.{suffix}"):
        dataset = TableDataset(filepath=path)
        dataset.save(table)
        pd.testing.assert_frame_equal(dataset.load(), table)
        assert dataset.preview(1)["data"] == [["NA", "02"]]
    assert (tmp_path / f"x.{suffix}").read_bytes().startswith(b"PAR1") == (suffix == "parquet")


def test_checkpoint_holds_no_code(tmp_path):
    dataset = CheckpointDataset(filepath=str(tmp_path / "x.ckpt"))
    dataset.save({"state_dict": {"w": torch.arange(3.0)}, "epoch": 4})
    assert torch.equal(dataset.load()["state_dict"]["w"], torch.arange(3.0))
    assert '"parameters": 3' in dataset.preview()
    torch.save({"evil": print}, tmp_path / "x.ckpt")
    with pytest.raises(DatasetError, match="weights_only"):
        dataset.load()


class Unsaveable(pd.DataFrame):
    def to_parquet(self, path, *args, **kwargs):
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt


class UnsaveableCells(ad.AnnData):
    def write_h5ad(self, filename, *args, **kwargs):
        Path(filename).write_bytes(b"half")
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("dataset", "good", "bad"),
    [
        (lambda path: ParquetDataset(filepath=path), pd.DataFrame({"a": [1, 2]}), Unsaveable({"a": [1]})),
        (lambda path: AnnDataDataset(filepath=path), cells(2), UnsaveableCells(np.ones((1, 1)))),
    ],
)
def test_an_interrupted_save_leaves_the_old_file(tmp_path, dataset, good, bad):
    dataset = dataset(str(tmp_path / "x"))
    dataset.save(good)
    with pytest.raises(KeyboardInterrupt):
        dataset.save(bad)
    assert dataset.load().shape[0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_parquet_keeps_provenance(tmp_path):
    table = pd.DataFrame({"a": [1]})
    table.attrs["perturbench"] = Stamp.make("demo").text()
    dataset = ParquetDataset(filepath=str(tmp_path / "x.parquet"))
    dataset.save(table)
    assert dataset.load().attrs == table.attrs


def test_csv_has_no_index_and_takes_pandas_arguments(tmp_path):
    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}, index=[5, 6])
    dataset = CSVDataset(filepath=str(tmp_path / "x.csv"), save_args={"sep": ";"}, load_args={"sep": ";"})
    dataset.save(table)
    assert (tmp_path / "x.csv").read_text() == "a;b\n1;x\n2;y\n"
    pd.testing.assert_frame_equal(dataset.load(), table.reset_index(drop=True))
    assert dataset.preview(1) == {"index": [0], "columns": ["a", "b"], "data": [[1, "x"]]}


def test_optional_partitions_may_be_empty(tmp_path):
    config = {"path": str(tmp_path / "none"), "dataset": "perturbench.datasets.ParquetDataset"}
    dataset = OptionalPartitionedDataset(**config, filename_suffix=".parquet")
    assert dataset.load() == {}
    dataset.save({"model/seed0": pd.DataFrame({"a": [1]})})
    assert list(dataset.load()) == ["model/seed0"]


def test_datasets_are_found_by_the_catalog(tmp_path):
    entry = {
        "type": "perturbench.datasets.AnnDataDataset",
        "filepath": str(tmp_path / "{task}.h5ad"),
        "versioned": True,
    }
    catalog = DataCatalog.from_config({"{task}.cells": entry})
    catalog["norman.cells"].save(cells())
    assert catalog["norman.cells"].load().n_obs == 20
