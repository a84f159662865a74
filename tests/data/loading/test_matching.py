import numpy as np
import pandas as pd
import pytest

from perturbench.data.groups import Groups, Keys
from perturbench.data.loading.matching import ControlPool
from perturbench.errors import PerturbenchError


@pytest.fixture
def groups():
    """60 cells in 3 states, 24 of them controls."""
    obs = pd.DataFrame(
        {
            "condition": np.tile(["control", "A", "B", "control", "C"], 12),
            "cell_type": np.random.default_rng(0).choice(["s1", "s2", "s3"], 60),
        }
    )
    return Groups.from_obs(obs, Keys())


@pytest.fixture
def pool(groups):
    return ControlPool(groups, np.arange(60))


def match(pool, groups, rows, seed):
    return pool.match(rows, groups.state_codes[rows], seed)


def test_matches_are_controls_of_the_same_state(pool, groups):
    for seed in range(5):
        matched = match(pool, groups, np.arange(60), seed)
        assert groups.is_control[matched].all()
        assert np.array_equal(groups.state_codes[matched], groups.state_codes)


def test_only_controls_of_the_pool_are_matched(groups):
    rows = np.arange(0, 60, 2)
    matched = match(ControlPool(groups, rows), groups, np.arange(60), 0)
    assert set(matched) <= set(rows)


def test_each_control_is_matched_equally_often(pool, groups):
    row = np.flatnonzero(~groups.is_control)[:1]
    controls = pool.controls_of(int(groups.state_codes[row[0]]))
    n_seeds = 400 * len(controls)
    counts = np.bincount([match(pool, groups, row, seed)[0] for seed in range(n_seeds)], minlength=60)
    assert set(np.flatnonzero(counts)) == set(controls)
    assert np.abs(counts[controls] - 400).max() < 5 * np.sqrt(400)


def test_match_depends_only_on_seed_and_cell(pool, groups):
    whole = match(pool, groups, np.arange(60), 7)
    order = np.random.default_rng(0).permutation(60)
    parts = np.concatenate([match(pool, groups, part, 7) for part in np.array_split(order, 7)])
    assert np.array_equal(parts, whole[order])
    assert not np.array_equal(match(pool, groups, np.arange(60), 8), whole)


def test_states_without_controls_are_named(groups):
    rows = np.flatnonzero(~groups.is_control | (groups.state_codes != groups.states.index(("s2",))))
    pool = ControlPool(groups, rows)
    pool.require_controls(groups.state_codes[groups.state_codes != groups.states.index(("s2",))])
    with pytest.raises(PerturbenchError, match=r"no control cells in 1 of 3 states: \(s2\)"):
        pool.require_controls(groups.state_codes)
