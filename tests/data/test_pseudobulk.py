import anndata as ad
import numpy as np
import pandas as pd
import pytest

from perturbench.data.groups import Groups, Keys
from perturbench.data.pseudobulk import Pseudobulk
from perturbench.errors import PerturbenchError

# s1 and s2 have controls, s3 has none, and s4 has controls only.
ROWS = [
    ("control", "s1", 1), ("control", "s1", 3), ("A", "s1", 5), ("A", "s1", 7), ("B", "s1", 2),
    ("control", "s2", 10), ("A", "s2", 11), ("A", "s3", 100), ("control", "s4", 0),
]  # fmt: skip


@pytest.fixture
def cells():
    obs = pd.DataFrame([row[:2] for row in ROWS], columns=["condition", "cell_type"], index=list("abcdefghi"))
    return ad.AnnData(np.array([[row[2], -row[2]] for row in ROWS], np.float32), obs=obs)


def compute(cells, rows=None):
    return Pseudobulk.from_adata(cells, Groups.from_obs(cells.obs, Keys()), rows)


def test_means_of_pairs_and_controls(cells):
    pseudobulk = compute(cells)
    assert pseudobulk.pairs == [(("s1",), "A"), (("s1",), "B"), (("s2",), "A"), (("s3",), "A")]
    assert pseudobulk.means[:, 0].tolist() == [6, 2, 11, 100]
    assert pseudobulk.control_means[[0, 1, 3], 0].tolist() == [2, 10, 0]
    assert np.isnan(pseudobulk.control_means[2]).all()


def test_effects_are_differences_to_the_controls_of_the_state(cells):
    effects = compute(cells).effects
    assert {pair: effect.tolist() for pair, effect in effects.items()} == {
        (("s1",), "A"): [4, -4],
        (("s1",), "B"): [0, 0],
        (("s2",), "A"): [1, -1],
    }


def test_effects_are_averaged_over_perturbations_or_states(cells):
    pseudobulk = compute(cells)
    response = pseudobulk.mean_response([("s2",), ("s1",), ("s4",)])
    assert response[:, 0].tolist() == [1, 2, 1.5], "a state without perturbations gets the mean over states"
    assert {name: effect[0] for name, effect in pseudobulk.mean_effects().items()} == {"A": 2.5, "B": 0}


def test_only_the_given_rows_count(cells):
    pseudobulk = compute(cells, np.array([0, 2, 5]))
    assert pseudobulk.pairs == [(("s1",), "A")]
    assert pseudobulk.effects[("s1",), "A"].tolist() == [4, -4]


def test_no_state_with_perturbed_and_control_cells(cells):
    with pytest.raises(PerturbenchError, match="no state of the training cells has both perturbed and control cells"):
        compute(cells, np.array([0, 7])).mean_response([("s1",)])
