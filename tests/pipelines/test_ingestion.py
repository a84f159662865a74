import gzip

import anndata as ad
import numpy as np
import pytest

from perturbench.config import DataConfig
from perturbench.errors import PerturbenchError
from perturbench.pipelines.ingestion.nodes import curate, fetch


@pytest.fixture
def config(screen, tmp_path):
    screen.write_h5ad(tmp_path / "raw.h5ad")

    def make(**overrides):
        return DataConfig(**{"dataset": "x", "source": {"path": str(tmp_path / "raw.h5ad")}} | overrides)

    return make


def test_raw_says_what_was_read(config):
    raw = fetch(config(), "mine")
    assert raw["path"].endswith("raw.h5ad")
    assert raw["bytes"] > 0
    assert len(raw["sha256"]) == 64
    assert raw["task"] == "mine"


def test_another_checksum_is_told(config, tmp_path, caplog):
    source = {"path": str(tmp_path / "raw.h5ad"), "sha256": "0" * 64}
    fetch(config(source=source), "mine")
    assert "is not the file that task 'mine' was made for" in caplog.text


@pytest.fixture
def published(screen, server, tmp_path):
    """Parameters of a data set that is downloaded from this machine."""
    screen.write_h5ad(tmp_path / "x.h5ad")
    content = (tmp_path / "x.h5ad").read_bytes()
    server.files |= {"x.h5ad.gz": gzip.compress(content), "x_split.csv": b"cell,train\n"}

    def make(**source):
        files = {name: {"url": f"{server.url}/{name}"} for name in server.files}
        raw = {"files": files, "read": "x.h5ad"}
        return DataConfig(
            dataset="x", source={"kind": "raw", "cache": str(tmp_path / "cache"), "published": {"raw": raw}} | source
        )

    return make


def test_download_is_unpacked_read_and_recorded(published, server, screen, tmp_path):
    data = published()
    raw = fetch(data, "mine")
    assert raw["path"] == str(tmp_path / "cache/x/x.h5ad")
    assert raw["kind"] == "raw"
    assert [file["url"] for file in raw["files"]] == [f"{server.url}/x.h5ad.gz", f"{server.url}/x_split.csv"]
    assert all(len(file["sha256"]) == 64 for file in raw["files"])
    assert np.array_equal(curate(raw, data, "mine").X.toarray(), screen.X.toarray())
    assert fetch(data, "mine") == raw
    assert len(server.asked) == 2


def test_file_of_ones_own_is_taken_in_place_of_a_download(published, server, tmp_path):
    raw = fetch(published(path=str(tmp_path / "x.h5ad")), "mine")
    assert raw["path"] == str(tmp_path / "x.h5ad")
    assert not server.asked


def test_citation_and_place_do_not_change_what_curated_cells_are(config):
    data = config(card={"citation": "x"})
    assert (
        curate(fetch(data, "mine"), data, "mine").uns["perturbench"]["parameters"]
        == curate(fetch(config(), "mine"), config(), "mine").uns["perturbench"]["parameters"]
    )


def test_simulated_data_is_made_once_and_anew_when_its_parameters_change(tmp_path):
    def source(n_genes):
        simulation = {"n_cells": 400, "n_genes": n_genes, "n_singles": 4, "n_doubles": 2}
        return {"kind": "simulation", "path": str(tmp_path / "s.h5ad"), "simulation": simulation}

    first = fetch(DataConfig(dataset="s", source=source(20)), "s")
    written = (tmp_path / "s.h5ad").stat().st_mtime_ns
    assert fetch(DataConfig(dataset="s", source=source(20)), "s") == first
    assert (tmp_path / "s.h5ad").stat().st_mtime_ns == written
    fetch(DataConfig(dataset="s", source=source(25)), "s")
    assert ad.read_h5ad(tmp_path / "s.h5ad").n_vars == 25


def test_curated_cells_are_standard_and_know_their_source(config, screen):
    data = config()
    curated = curate(fetch(data, "mine"), data, "mine")
    assert np.array_equal(curated.X.toarray(), screen.X.toarray())
    assert curated.uns["perturbench"]["inputs"]["raw"] == fetch(data, "mine")["sha256"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"perturbation_key": "gene"}, "perturbation column 'gene' is not in obs; columns are: condition, cell_type"),
        ({"covariate_keys": ["cell_line"]}, "covariate column 'cell_line' is not in obs"),
        ({"control": "NT"}, "no value of 'condition' is 'NT'"),
        ({"counts_layer": "counts"}, "layer 'counts' is not in"),
        ({"rename": {"Z": "Q"}}, "do not occur: Z"),
    ],
)
def test_what_does_not_fit_the_data_is_refused(config, overrides, message):
    data = config(**overrides)
    with pytest.raises(PerturbenchError, match=message):
        curate(fetch(data, "mine"), data, "mine")
