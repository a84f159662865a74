import gzip
import json
import os

import anndata as ad
import h5py
import numpy as np
import pytest
import scipy.sparse as sp

from perturbench.config.sections import DataConfig
from perturbench.errors import PerturbenchError
from perturbench.pipelines.ingestion.nodes import curate, describe, fetch
from perturbench.provenance import Stamp


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
    stamps = [Stamp.read(curate(fetch(given, "mine"), given, "mine").uns) for given in (data, config())]
    assert stamps[0].differences(stamps[1]) == []


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
    assert Stamp.read(curated.uns).inputs["raw data"] == fetch(data, "mine")["sha256"]


def test_a_folder_of_files_is_one_source(config, screen, tmp_path):
    (tmp_path / "folder").mkdir()
    screen[:600].write_h5ad(tmp_path / "folder/a.h5ad")
    screen[600:].write_h5ad(tmp_path / "folder/b.h5ad")
    data = config(source={"path": str(tmp_path / "folder")})
    raw = fetch(data, "mine")
    assert curate(raw, data, "mine").n_obs == screen.n_obs
    (tmp_path / "folder/b.h5ad").unlink()
    assert fetch(data, "mine")["sha256"] != raw["sha256"]


def test_steps_of_a_task(config, screen, tmp_path):
    screen.obs["gene"] = screen.obs.pop("condition").astype(str).str.replace("+", "_")
    screen.write_h5ad(tmp_path / "raw.h5ad")
    steps = [{"replace_delimiter": {"column": "gene", "old": "_"}}, {"set_columns": {"values": {"batch": "b"}}}]
    data = config(perturbation_key="gene", curation=steps)
    assert any("+" in name for name in curate(fetch(data, "mine"), data, "mine").obs["condition"].unique())


def test_a_file_of_a_known_data_set_is_recognised_unless_the_task_says_how_to_read_it(config):
    assert [layout.name for layout in config(dataset="norman19").layouts] == ["processed", "raw", "configured"]
    assert [layout.name for layout in config(dataset="norman19", control="NT").layouts] == ["configured"]
    assert [layout.name for layout in config(dataset="mine").layouts] == ["configured"]


def test_bad_steps_fail_with_the_parameters(config):
    with pytest.raises(ValueError, match="unknown curation step 'lowercase'"):
        config(curation=[{"lowercase": {"column": "cell_type"}}])
    with pytest.raises(ValueError, match="it takes: column"):
        config(curation=[{"lower_case": {"columns": "cell_type"}}])


def test_data_card(config, screen):
    data = config(card={"citation": "Doe 2024", "licence": "MIT"})
    raw = fetch(data, "mine")
    curated = curate(raw, data, "mine")
    card = describe(curated, raw, data, "My screen")
    counts = np.asarray(screen.X.sum(axis=1)).ravel()
    assert (
        card | {"title": "My screen", "citation": "Doe 2024", "licence": "MIT", "url": None, "source": raw["path"]}
        == card
    )
    assert card["source kind"] == "file"
    assert (card["cells"], card["genes"], card["singles"], card["combinations"]) == (1200, 60, 8, 4)
    assert card["control cells"] == (screen.obs["condition"] == "control").sum()
    assert card["counts per cell (median)"] == np.median(counts)
    states = {row["cell_type"]: row for row in card["states"]}
    sizes = screen.obs["cell_type"].value_counts()
    assert {name: row["cells"] for name, row in states.items()} == sizes.to_dict()
    assert sum(row["controls"] for row in card["states"]) == card["control cells"]
    assert all(row["perturbations"] == 12 for row in card["states"])
    assert json.loads(json.dumps(card)) == card
    curated.X.data[0] += 1
    assert describe(curated, raw, data, "My screen")["fingerprint"] != card["fingerprint"]


def test_state_with_too_few_controls(config):
    data = config(min_controls=1000)
    with pytest.raises(PerturbenchError, match=r"under 1000 control cells .* in 3 of 3 states"):
        curate(fetch(data, "mine"), data, "mine")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"perturbation_key": "gene"}, "perturbation column 'gene' is not in obs; columns are: condition, cell_type"),
        ({"covariate_keys": ["cell_line"]}, "covariate column 'cell_line' is not in obs"),
        ({"control": "NT"}, "no value of 'condition' is 'NT'"),
        ({"counts_layer": "counts"}, "layer 'counts' is not in"),
        ({"rename_perturbations": {"Z": "Q"}}, "do not occur: Z"),
    ],
)
def test_what_does_not_fit_the_data_is_refused(config, overrides, message):
    data = config(**overrides)
    with pytest.raises(PerturbenchError, match=message):
        curate(fetch(data, "mine"), data, "mine")


def test_a_pipe_as_the_source_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "raw.h5ad")
    for path in (tmp_path / "raw.h5ad", tmp_path):
        with pytest.raises(PerturbenchError, match=r"raw\.h5ad' is a pipe, not a regular file"):
            fetch(DataConfig(dataset="x", source={"path": str(path)}), "mine")


def test_a_source_that_links_elsewhere_or_is_malformed_is_refused(config, tmp_path):
    raw = fetch(config(), "mine")
    with h5py.File(raw["path"], "a") as file:
        file["X/indices"][3] = 10_000
    with pytest.raises(PerturbenchError, match=r"raw\.h5ad': the sparse matrix '/X' is malformed: .* index 10000"):
        curate(raw, config(), "mine")
    with h5py.File(raw["path"], "a") as file:
        del file["X"]
        file["X"] = h5py.ExternalLink("other.h5ad", "/X")
    with pytest.raises(PerturbenchError, match=r"raw\.h5ad': '/X' is a link to '/X' in the file 'other\.h5ad'"):
        curate(raw, config(), "mine")


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_repeated_entries_of_a_source_are_summed(config, screen, tmp_path, dtype):
    x = screen.X
    np.minimum(x.data, 500, out=x.data)  # the halves fit into 8 bits, the sums do not
    screen.write_h5ad(tmp_path / "raw.h5ad")
    expected = curate(fetch(config(), "mine"), config(), "mine")
    halves = np.stack([x.data // 2, x.data - x.data // 2], 1)
    assert expected.X.max() > 255
    split = halves.ravel().astype(dtype)
    screen.X = sp.csr_matrix((split, np.repeat(x.indices, 2), x.indptr * 2), x.shape)
    screen.write_h5ad(tmp_path / "raw.h5ad")
    curated = curate(fetch(config(), "mine"), config(), "mine")
    assert curated.X.has_canonical_format
    curated.X.eliminate_zeros()
    assert np.array_equal(curated.X.data, expected.X.data)
    assert np.array_equal(curated.X.indices, expected.X.indices)
