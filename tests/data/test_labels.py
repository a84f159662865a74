import numpy as np
import pandas as pd
import pytest

from perturbench.data.groups import Groups, Keys
from perturbench.data.labels import align_split, evaluation_rows
from perturbench.errors import PerturbenchError

NAMES = pd.Index(["a", "b", "c", "d"])
SPLIT = pd.Series({"d": "test", "a": "train", "b": "val"})


def test_labels_follow_the_names_of_cells():
    assert align_split(SPLIT, NAMES).tolist() == ["train", "val", "", "test"]
    assert align_split(SPLIT.reindex(NAMES), NAMES).tolist() == ["train", "val", "", "test"]


def test_unknown_cells_in_the_split():
    split = pd.concat([SPLIT, pd.Series("train", index=["nobody", "noone"])])
    with pytest.raises(PerturbenchError, match=r"2 of the 5 cells in the split are not in the data, .* 'nobody'"):
        align_split(split, NAMES)


def test_cell_twice_in_the_split():
    with pytest.raises(PerturbenchError, match="the split names cells twice: a; give each cell one label"):
        align_split(pd.concat([SPLIT, SPLIT[["a"]]]), NAMES)


def test_unknown_label():
    with pytest.raises(PerturbenchError, match="unknown split label 'ood'; choose one of: test, train, val"):
        align_split(SPLIT.replace("test", "ood"), NAMES)


def test_evaluation_rows_are_perturbed_cells_of_a_part_and_controls():
    obs = pd.DataFrame({"condition": ["A", "control", "A", "control", "control"], "cell_type": "s"})
    groups, labels = Groups.from_obs(obs, Keys()), np.array(["test", "train", "val", "test", ""])
    assert evaluation_rows(labels, groups, "test", "part").tolist() == [0, 3]
    assert evaluation_rows(labels, groups, "test", "all").tolist() == [0, 1, 3], "unused controls stay unused"
    with pytest.raises(PerturbenchError, match="unknown part 'dev'; choose one of: test, train, val"):
        evaluation_rows(labels, groups, "dev", "all")
    with pytest.raises(PerturbenchError, match="unknown controls 'own'; choose one of: all, part"):
        evaluation_rows(labels, groups, "test", "own")
