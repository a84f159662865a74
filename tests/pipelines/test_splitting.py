import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from perturbench.config import DataConfig, SplitterConfig
from perturbench.errors import PerturbenchError
from perturbench.pipelines.splitting import create_pipeline
from perturbench.pipelines.splitting.nodes import assign_split

DATA = DataConfig(dataset="x", source={"path": "x"})


def test_every_method_labels_every_cell(screen):
    for method in ("transfer", "combine", "combine_inverse", "unseen"):
        config = SplitterConfig(method=method, max_heldout_fraction_per_covariate=0.5)
        split, summary, checks = assign_split(screen, DATA, config, "mine")
        assert set(split["split"]) == {"train", "val", "test"}
        assert split.index.equals(screen.obs_names)
        assert summary.groupby("split")["cells"].sum().gt(0).all()
        assert set(checks["result"]) == {"passed"}
        assert split.attrs["perturbench"]["task"] == "mine"


def test_a_split_from_a_file(screen, tmp_path):
    split, *_ = assign_split(screen, DATA, SplitterConfig(method="transfer"), "mine")
    split["split"].to_csv(tmp_path / "mine.csv")
    again, *_ = assign_split(screen, DATA, SplitterConfig(method="csv", path=str(tmp_path / "mine.csv")), "mine")
    assert again["split"].equals(split["split"])
    with pytest.raises(PerturbenchError, match=r"split file 'none\.csv' not found"):
        assign_split(screen, DATA, SplitterConfig(method="csv", path="none.csv"), "mine")


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
