import pandas as pd
import pytest
from tests.data.splits.screens import KEYS, screen_obs

from perturbench.data.splits import SplitRules, read_split, split_cells
from perturbench.errors import PerturbenchError


class TestCsv:
    obs = screen_obs(singles=6)

    def split(self):
        return split_cells(self.obs, KEYS, "transfer", SplitRules(), 0)

    @pytest.mark.parametrize("header", [True, False])
    def test_written_split_is_read_back(self, tmp_path, header):
        self.split().to_csv(tmp_path / "split.csv", header=header)
        assert read_split(tmp_path / "split.csv", self.obs, KEYS).equals(self.split())

    def test_order_header_and_more_columns_do_not_matter(self, tmp_path):
        table = self.split().sample(frac=1, random_state=0).rename_axis("barcode").rename("set").reset_index()
        table.assign(note="x").to_csv(tmp_path / "split.csv", index=False)
        assert read_split(tmp_path / "split.csv", self.obs, KEYS).equals(self.split())

    def test_cell_names_like_numbers(self, tmp_path):
        obs = self.obs.set_axis([f"{i:04d}" for i in range(len(self.obs))])
        split = self.split().set_axis(obs.index)
        split.to_csv(tmp_path / "split.csv", header=False)
        assert read_split(tmp_path / "split.csv", obs, KEYS).equals(split)

    def test_unused_cells(self, tmp_path):
        split = self.split()
        unused = split[split == "train"].index[::9]
        split.drop(unused).to_csv(tmp_path / "without.csv")
        split.mask(split.index.isin(unused)).to_csv(tmp_path / "empty.csv")
        for name in ("without", "empty"):
            read = read_split(tmp_path / f"{name}.csv", self.obs, KEYS)
            assert list(read.index) == list(self.obs.index)
            assert set(read.index[read.isna()]) == set(unused)

    def test_cell_named_twice(self, tmp_path):
        split = self.split()
        pd.concat([split, split[["c7"]]]).to_csv(tmp_path / "split.csv")
        with pytest.raises(PerturbenchError, match=r"split\.csv' names cells twice: c7"):
            read_split(tmp_path / "split.csv", self.obs, KEYS)

    def test_unknown_cells(self, tmp_path):
        pd.concat([self.split(), pd.Series("train", index=["zed"])]).to_csv(tmp_path / "split.csv")
        with pytest.raises(PerturbenchError, match=r"names 1 cells that are not in the data: zed; .*like 'c0'"):
            read_split(tmp_path / "split.csv", self.obs, KEYS)

    @pytest.mark.parametrize("header", [True, False])
    def test_unknown_label(self, tmp_path, header):
        self.split().replace("test", "ood").to_csv(tmp_path / "split.csv", header=header)
        with pytest.raises(PerturbenchError, match=r"split\.csv' 'ood'; choose one of: test, train, val"):
            read_split(tmp_path / "split.csv", self.obs, KEYS)

    def test_missing_file(self, tmp_path):
        with pytest.raises(PerturbenchError, match=r"absent\.csv' not found; set splitter\.path"):
            read_split(tmp_path / "absent.csv", self.obs, KEYS)

    @pytest.mark.parametrize("text", ["", "c0\nc1\n"])
    def test_file_without_two_columns(self, tmp_path, text):
        (tmp_path / "split.csv").write_text(text)
        with pytest.raises(PerturbenchError, match=r"split\.csv"):
            read_split(tmp_path / "split.csv", self.obs, KEYS)

    def test_leak(self, tmp_path):
        split = self.split()
        first = split[split == "test"].index[0]
        split[first] = "train"
        split.to_csv(tmp_path / "split.csv")
        with pytest.raises(PerturbenchError, match="in both train and test"):
            read_split(tmp_path / "split.csv", self.obs, KEYS)
