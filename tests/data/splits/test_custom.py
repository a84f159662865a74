import pandas as pd
import pytest
from tests.data.splits.screens import KEYS, screen_obs

from perturbench.data.splits import SplitRules, read_split, split_cells, split_of_column
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
        split.mask(split.index.isin(unused)).to_csv(tmp_path / "empty.csv", header=False)
        for label in ("none", "None"):
            split.mask(split.index.isin(unused), label).to_csv(tmp_path / f"{label}.csv", header=False)
        for name in ("empty", "none", "None"):
            read = read_split(tmp_path / f"{name}.csv", self.obs, KEYS)
            assert list(read.index) == list(self.obs.index)
            assert set(read.index[read.isna()]) == set(unused)

    def test_cell_named_twice(self, tmp_path):
        split = self.split()
        pd.concat([split, split[["c7"]]]).to_csv(tmp_path / "split.csv")
        with pytest.raises(PerturbenchError, match=r"split\.csv' names cells twice: c7"):
            read_split(tmp_path / "split.csv", self.obs, KEYS)

    def test_the_first_cell_may_be_unused(self, tmp_path):
        split = self.split()
        split.iloc[0] = None
        split.to_csv(tmp_path / "split.csv", header=False)
        assert read_split(tmp_path / "split.csv", self.obs, KEYS).isna().sum() == 1

    def test_other_cells_are_refused_with_names_of_both_sides(self, tmp_path):
        n = len(self.obs)
        pd.concat([self.split(), pd.Series("train", index=["zed"])]).to_csv(tmp_path / "more.csv")
        with pytest.raises(
            PerturbenchError, match=rf"1 of the {n + 1} cells in it are not in the data \(zed\), and 0 of the {n} cells"
        ):
            read_split(tmp_path / "more.csv", self.obs, KEYS)
        self.split().drop(["c3", "c8"]).to_csv(tmp_path / "fewer.csv")
        with pytest.raises(
            PerturbenchError, match=rf"0 of the {n - 2} .*, and 2 of the {n} cells of the data are not in it \(c3, c8\)"
        ):
            read_split(tmp_path / "fewer.csv", self.obs, KEYS)
        self.split().rename("x{}".format).to_csv(tmp_path / "other.csv")
        with pytest.raises(PerturbenchError, match=r"does not belong to these cells: .*\(xc0, xc1, .*\(c0, c1, "):
            read_split(tmp_path / "other.csv", self.obs, KEYS)

    @pytest.mark.parametrize("header", [True, False])
    def test_unknown_label(self, tmp_path, header):
        self.split().replace("test", "ood").to_csv(tmp_path / "split.csv", header=header)
        with pytest.raises(PerturbenchError, match=r"split\.csv' 'ood'; choose one of: test, train, val"):
            read_split(tmp_path / "split.csv", self.obs, KEYS)

    def test_missing_file(self, tmp_path):
        with pytest.raises(
            PerturbenchError, match=r"absent\.csv' not found; its folder has no csv file\. Set splitter\.path"
        ):
            read_split(tmp_path / "absent.csv", self.obs, KEYS)
        for name in ("full", "small"):
            (tmp_path / f"{name}_covariate_split.csv").touch()
        with pytest.raises(
            PerturbenchError, match=r"its folder has: full_covariate_split\.csv, small_covariate_split\.csv\."
        ):
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


class TestColumn:
    obs = screen_obs(singles=6)

    def with_column(self, **changes):
        split = split_cells(self.obs, KEYS, "transfer", SplitRules(), 0)
        return split, self.obs.assign(part=split.replace(changes).astype("category"))

    def test_a_split_is_taken_from_a_column(self):
        split, obs = self.with_column()
        assert split_of_column(obs, "part", KEYS).equals(split)

    def test_unused_cells(self):
        split, obs = self.with_column()
        unused = split[split == "train"].index[::9]
        for label in ("none", "", None):
            labels = obs["part"].astype(object).mask(obs.index.isin(unused), label)
            read = split_of_column(obs.assign(part=labels), "part", KEYS)
            assert set(read.index[read.isna()]) == set(unused)

    def test_what_is_no_split_is_refused(self):
        _, obs = self.with_column(test="ood")
        with pytest.raises(PerturbenchError, match=r"column 'part' 'ood'; choose one of: test, train, val"):
            split_of_column(obs, "part", KEYS)
        with pytest.raises(
            PerturbenchError,
            match=r"splitter\.column 'parts' is not a column of obs; columns are: condition, cell_type, part\. Draw",
        ):
            split_of_column(obs, "parts", KEYS)
        _, obs = self.with_column(test="val")
        with pytest.raises(PerturbenchError, match="the test part of the split has no perturbed cells"):
            split_of_column(obs, "part", KEYS)
