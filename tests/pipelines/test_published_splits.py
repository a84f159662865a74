"""The splits that were published with processed files, on their way from a server to the parts of the cells."""

import gzip
import logging
from itertools import product

import anndata as ad
import pandas as pd
import pytest
from tests.data.curation.layouts import processed
from tests.data.sources.tar_files import tar

from perturbench.data.groups import Keys
from perturbench.data.splits import SplitRules, split_cells
from perturbench.errors import PerturbenchError

DMSO = "C[S+](C)[O-]"
COVARIATES = {
    "frangieh21": {"cell_type": ["melanocyte"], "treatment": ["none", "IFN\u03b3", "co-culture"]},
    "jiang24": {"cell_type": ["k562", "mcf7"], "treatment": ["IFNG", "INS"]},
    "mcfaline23": {"cell_type": ["a172", "t98g"], "treatment": ["none", "lapatinib"]},
    "norman19": {"cell_type": ["k562"]},
    "op3": {"cell_type": ["B cells", "T cells", "NK cells"]},
}
SIZES = ("small", "medium", "full")


@pytest.fixture
def publish(server, tmp_path, load_config):
    """Return a function that serves small files in the place of a task's processed files.

    It returns the parameters to find them, the cells, and the splits in the served files by the seed of each.
    """

    def publish(task):
        data = load_config(task=task)["parameters"]["data"]
        form = data["source"]["published"]["processed"]
        cells = small(data["dataset"])
        cells.write_h5ad(tmp_path / "cells.h5ad")
        splits = {seed: split_of(cells, data, seed) for seed in range(3)}
        written = [split.to_csv(header=False).encode() for split in splits.values()]
        for name in form["files"]:
            if name.endswith(".h5ad.gz"):
                server.files[name] = gzip.compress((tmp_path / "cells.h5ad").read_bytes())
            elif name.endswith(".tar.gz"):
                members = [f"mcfaline23_gxe_splits/{size}_covariate_split.csv" for size in SIZES]
                server.files[name] = tar(**dict(zip(members, written, strict=True)))
            else:
                server.files[name] = written[0]
        files = {name: {"url": f"{server.url}/{name}", "bytes": None, "checksum": None} for name in form["files"]}
        source = {"kind": "processed", "published": {"processed": {"files": files}}}
        return {"task": task, "data": {"source": source}}, cells, splits

    return publish


def small(dataset):
    """Return a small processed file with the columns of a published one."""
    covariates = COVARIATES[dataset]
    control = DMSO if dataset == "op3" else "control"
    names = [*["A", "B", "C", "D", "A+B", "B+C", "C+D", "A+D"] * 2, *[control] * 8]
    rows = list(product(*covariates.values(), names))
    columns = {name: [row[position] for row in rows] for position, name in enumerate(covariates)}
    adata = processed([row[-1] for row in rows], columns)
    if dataset == "op3":
        adata.obs = adata.obs.rename(columns={"condition": "SMILES"}).drop(columns="perturbation")
    return adata


def split_of(cells, data, seed):
    """Return a split of the cells with empty labels for some, as the published files have them."""
    key, control = ("SMILES", DMSO) if data["dataset"] == "op3" else ("condition", "control")
    keys = Keys(key, tuple(data["covariate_keys"]), control, None)
    method = "combine" if data["dataset"] == "norman19" else "transfer"
    if method == "combine":
        keys = Keys(key, tuple(data["covariate_keys"]), control, "+")
    rules = SplitRules(max_heldout_fraction_per_covariate=0.5)
    split = split_cells(cells.obs, keys, method, rules, seed)
    return split.mask(
        (split == "train") & (cells.obs[key] != control) & (pd.Series(range(len(split)), split.index) % 9 == seed)
    )


def stored_split(run, task):
    return pd.read_parquet(run.root / f"data/05_model_input/{task}/split.parquet")["split"]


@pytest.mark.parametrize(
    ("task", "position"),
    [("jiang24", 0), ("frangieh21", 0), ("op3", 0), *((f"mcfaline23_{size}", at) for at, size in enumerate(SIZES))],
)
def test_the_published_split_is_used(run, publish, task, position):
    params, cells, splits = publish(task)
    run("ingestion", "splitting", **params)
    read, expected = stored_split(run, task), splits[position]
    assert list(read.index) == list(cells.obs_names)
    assert read.isna().sum() > 0
    assert read.fillna("unused").tolist() == expected.fillna("unused").tolist()


def test_a_split_can_be_drawn_all_the_same(run, publish):
    params, _, splits = publish("jiang24")
    heldout = [{"cell_type": "k562", "treatment": "IFNG"}]
    run("ingestion", "splitting", **params, splitter={"method": "manual", "heldout_states": heldout})
    drawn = stored_split(run, "jiang24")
    assert drawn.notna().all()
    curated = ad.read_h5ad(run.root / "data/02_intermediate/jiang24/curated.h5ad")
    assert set(curated.obs.loc[drawn == "test", "condition"]) - {"control"}
    assert drawn.tolist() != splits[0].tolist()


def test_data_without_a_published_split_says_that_one_is_drawn(run, publish, caplog):
    params, *_ = publish("norman19")
    with caplog.at_level(logging.INFO):
        run("ingestion", "splitting", **params)
    assert "no split was published with the processed files of norman19; one is drawn" in caplog.text


def test_a_split_of_other_cells_is_refused(run, publish, server):
    params, _, splits = publish("frangieh21")
    server.files["frangieh21_split.csv"] = splits[0].rename("AAAC-{}".format).to_csv(header=False).encode()
    with pytest.raises(PerturbenchError, match=r"72 of the 72 cells in it are not in the data \(AAAC-c0, .*\(c0, c1, "):
        run("ingestion", "splitting", **params)


def test_a_split_that_the_archive_lacks_is_named_beside_those_that_it_has(run, publish, server):
    params, *_ = publish("mcfaline23_full")
    server.files["mcfaline23_gxe_splits.tar.gz"] = tar(**{"splits/small_split.csv": b"c0,train\n"})
    with pytest.raises(
        PerturbenchError, match=r"full_covariate_split\.csv' not found; its folder has: small_split\.csv"
    ):
        run("ingestion", "splitting", **params)


@pytest.mark.parametrize(
    ("source", "method"),
    [({"kind": "processed"}, "csv"), ({"kind": "raw"}, "manual"), ({"kind": "processed", "path": "x.h5ad"}, "manual")],
)
def test_only_the_published_form_brings_its_split(load_config, source, method):
    parameters = load_config(task="frangieh21", data={"source": source})["parameters"]
    assert parameters["splitter"]["method"] == method
    assert parameters["splitter"]["max_heldout_fraction_per_covariate"] == 0.7
