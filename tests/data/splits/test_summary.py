import numpy as np
import pytest
from tests.data.splits.screens import KEYS, pairs_of, screen_obs

from perturbench.data.groups import Groups
from perturbench.data.splits import PARTS, SplitRules, imbalance, split_cells, split_summary


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([5, 5, 5], 0.0), ([7], 0.0), ([], 0.0), ([1, 3], 1 - (0.25 * np.log2(4) + 0.75 * np.log2(4 / 3)))],
)
def test_imbalance(counts, expected):
    assert imbalance(np.array(counts)) == pytest.approx(expected, abs=1e-12)


def test_imbalance_grows():
    values = [imbalance(np.array([188, n, n])) for n in (188, 100, 33, 1)]
    assert values == sorted(values)
    assert 0 <= values[0] < values[-1] < 1


def test_summary_counts_every_cell_once():
    obs = screen_obs()
    split = split_cells(obs, KEYS, "transfer", SplitRules(), 0)
    unused = split.index[(split == "train") & (obs["condition"] == "control")][:2]
    split[unused] = np.nan
    table = split_summary(split, Groups.from_obs(obs, KEYS))
    once = table[table["split"] != "used"]
    assert once[["cells", "controls"]].to_numpy().sum() == len(obs)
    used = table[table["split"] == "used"].set_index("cell_type")
    assert used["perturbations"].to_dict() == {"s1": 12, "s2": 12, "s3": 12}
    assert used[["cells", "controls"]].to_numpy().sum() == len(obs) - 2
    assert table.loc[table["split"] == "unused", "controls"].sum() == 2
    for part in PARTS:
        own = table[table["split"] == part]
        assert own["perturbations"].sum() == len(pairs_of(obs, split, part))
        assert own["imbalance"].iloc[0] == imbalance(own["perturbations"].to_numpy())
