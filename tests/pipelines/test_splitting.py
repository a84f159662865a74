from itertools import product

import anndata as ad
import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from perturbench.config.sections import DataConfig, SplitterConfig
from perturbench.errors import PerturbenchError
from perturbench.pipelines.splitting import create_pipeline
from perturbench.pipelines.splitting.nodes import assign_split
from perturbench.provenance import Stamp

DATA = DataConfig(dataset="x", source={"path": "x"})


def test_every_method_labels_every_cell(screen):
    for method in ("transfer", "combine", "combine_inverse", "unseen"):
        config = SplitterConfig(method=method, max_heldout_fraction_per_covariate=0.5)
        split, summary, checks = assign_split(screen, DATA, config, "mine")
        assert set(split["split"]) == {"train", "val", "test"}
        assert split.index.equals(screen.obs_names)
        assert summary.groupby("split")["cells"].sum().gt(0).all()
        assert set(checks["result"]) == {"passed"}
        assert Stamp.read(split.attrs).task == "mine"


def test_a_split_from_a_file(screen, tmp_path):
    split, *_ = assign_split(screen, DATA, SplitterConfig(method="transfer"), "mine")
    split["split"].to_csv(tmp_path / "mine.csv")
    again, *_ = assign_split(screen, DATA, SplitterConfig(method="csv", path=str(tmp_path / "mine.csv")), "mine")
    assert again["split"].equals(split["split"])
    with pytest.raises(PerturbenchError, match=r"split file 'none\.csv' not found"):
        assign_split(screen, DATA, SplitterConfig(method="csv", path="none.csv"), "mine")


def test_a_split_from_a_column(screen):
    split, *_ = assign_split(screen, DATA, SplitterConfig(method="transfer"), "mine")
    screen.obs["part"] = split["split"]
    again, *_ = assign_split(screen, DATA, SplitterConfig(method="column", column="part"), "mine")
    assert again["split"].equals(split["split"])


@pytest.mark.parametrize(("method", "place"), [("csv", "path"), ("column", "column")])
def test_a_method_that_reads_a_split_needs_its_place(method, place):
    with pytest.raises(PerturbenchError, match=f"splitter.method is '{method}', but splitter.{place} is not set"):
        SplitterConfig(method=method)


def test_a_split_that_leaves_a_part_empty_is_refused(screen):
    one_state = screen[screen.obs["cell_type"] == "state1"]
    with pytest.raises(PerturbenchError, match="holds nothing out"):
        assign_split(one_state, DATA, SplitterConfig(method="transfer"), "mine")
    few = SplitterConfig(method="combine", max_heldout_perturbations_per_covariate=1)
    with pytest.raises(
        PerturbenchError, match=r"the test part of the split has no perturbed cells \(train: 11 pairs, val: 1 pairs"
    ):
        assign_split(one_state, DATA, few, "mine")


def test_pipeline(screen):
    catalog = DataCatalog({"curated": MemoryDataset(screen)})
    catalog["params:data"], catalog["params:task"] = DATA, "mine"
    catalog["params:splitter"] = SplitterConfig(method="transfer")
    result = SequentialRunner().run(create_pipeline(), catalog)
    assert len(result["split"].load()) == screen.n_obs
    assert set(result["split_summary"].load()["split"]) == {"train", "val", "test", "used"}
    assert set(result["split_checks"].load()["result"]) == {"passed"}


LINES, DRUGS = ("a172", "t98g", "u87mg"), ("none", "lapatinib", "nintedanib", "trametinib", "zstk474")
CYTOKINES = ("IFNB", "IFNG", "INS", "TGFB", "TNFA")
SCREENS = {
    "srivatsan20": (188, {"cell_type": ("a549", "k562", "mcf7")}),
    "frangieh21": (20, {"treatment": ("none", "IFN\u03b3", "co-culture")}),
    "jiang24": (20, {"cell_type": ("a549", "bxpc3", "hap1", "ht29", "k562", "mcf7"), "treatment": CYTOKINES}),
    "mcfaline23": (20, {"cell_type": LINES, "treatment": DRUGS}),
    "papalexi21": (25, {"replicate": ("rep_1", "rep_2", "rep_3")}),
}


@pytest.fixture
def split_of(load_config):
    """Return a function that splits a screen with the states of a task's data set: labels with obs, and the summary."""

    def split(task):
        # The published splits are files; what the tasks draw is tested here.
        kind = {} if task.startswith("papalexi") else {"kind": "raw"}
        parameters = load_config(task=task, data={"source": kind})["parameters"]
        data, splitter = DataConfig(**parameters["data"]), SplitterConfig(**parameters["splitter"])
        n_perturbations, covariates = SCREENS[data.dataset]
        assert data.covariate_keys == tuple(covariates)
        names = [*(f"P{i}" for i in range(n_perturbations)), *["control"] * 6]
        rows = [(name, *state) for state in product(*covariates.values()) for name in names]
        obs = pd.DataFrame(rows, columns=["condition", *covariates], index=[f"c{i}" for i in range(len(rows))])
        table, summary, checks = assign_split(ad.AnnData(obs=obs), data, splitter, task)
        assert set(checks["result"]) == {"passed"}
        return obs.assign(split=table["split"]), summary

    return split


@pytest.mark.parametrize(
    ("task", "states"),
    [
        ("frangieh21", {("co-culture",)}),
        ("jiang24", set(product(("k562", "mcf7", "ht29", "hap1"), ("IFNG", "INS", "TGFB")))),
        ("mcfaline23_full", {("a172", "nintedanib"), ("t98g", "lapatinib"), ("u87mg", "none")}),
    ],
)
def test_seven_of_ten_perturbations_are_held_out_of_the_states_of_a_task(split_of, task, states):
    labelled, _ = split_of(task)
    heldout = labelled[labelled["split"].isin(["val", "test"]) & (labelled["condition"] != "control")]
    covariates = [name for name in ("cell_type", "treatment") if name in labelled]
    counts = heldout.groupby(covariates)["condition"].nunique()
    assert {state if isinstance(state, tuple) else (state,) for state in counts.index} == states
    assert set(counts) == {14}
    halves = heldout["split"].value_counts()
    assert abs(halves["val"] - halves["test"]) <= 1


def test_the_sizes_of_mcfaline_hold_out_the_same_cells(split_of):
    splits = {size: split_of(f"mcfaline23_{size}")[0]["split"] for size in ("small", "medium", "full")}
    assert {size: split.notna().sum() / 26 for size, split in splits.items()} == {"small": 6, "medium": 9, "full": 15}
    for part in ("val", "test"):
        assert len({frozenset(split.index[split == part]) for split in splits.values()}) == 1


@pytest.mark.parametrize(
    ("balance", "counts"),
    [("1", (188, 188, 188)), ("0.9", (188, 50, 117)), ("0.8", (188, 81, 30)), ("0.7", (188, 33, 33))],
)
def test_the_balance_of_a_task_is_its_name(split_of, balance, counts):
    _, summary = split_of(f"srivatsan20_balance_{balance}")
    used = summary[summary["split"] == "used"].set_index("cell_type")
    assert used["perturbations"].to_dict() == dict(zip(("a549", "k562", "mcf7"), counts, strict=True))
    assert used["imbalance"].iloc[0] == pytest.approx(1 - float(balance), abs=0.015)
    assert summary[summary["split"] == "train"].set_index("cell_type")["controls"].gt(0).to_dict() == dict.fromkeys(
        ("a549", "k562", "mcf7"), True
    )


def test_replicates_are_a_state(split_of):
    labelled, _ = split_of("papalexi21")
    heldout = labelled[(labelled["split"] != "train") & (labelled["condition"] != "control")]
    assert heldout.groupby("replicate")["condition"].nunique().to_dict() == dict.fromkeys(
        ("rep_1", "rep_2", "rep_3"), 7
    )
