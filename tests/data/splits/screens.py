"""Screens to split, and helpers to check their splits."""

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from perturbench.data.groups import Keys
from perturbench.data.splits import PARTS

KEYS = Keys()


def screen_obs(states=("s1", "s2", "s3"), singles=12, doubles=(), controls=9, cells=2):
    """Return one row per cell: every perturbation in every state, and controls."""
    conditions = [*(f"P{i:02d}" for i in range(singles)), *doubles]
    rows = [(name, state) for state in states for name in conditions for _ in range(cells)]
    rows += [("control", state) for state in states for _ in range(controls)]
    return pd.DataFrame(rows, columns=["condition", "cell_type"], index=[f"c{i}" for i in range(len(rows))])


def pairs_of(obs, split, part):
    selected = obs[(split == part).to_numpy() & (obs["condition"] != "control").to_numpy()]
    return set(zip(selected["cell_type"], selected["condition"], strict=True))


def by_hand(obs, **parts):
    """Split with the given (state, perturbation) pairs in val and test; controls go to the parts in turn."""
    split = pd.Series("train", index=obs.index)
    for part, pairs in parts.items():
        split[[pair in pairs for pair in zip(obs["cell_type"], obs["condition"], strict=True)]] = part
    control = (obs["condition"] == "control").to_numpy()
    split[control] = np.resize(list(PARTS), control.sum())
    return split


@st.composite
def screens(draw):
    """Draw a screen where not every perturbation is in every state."""
    n_states = draw(st.integers(2, 5))
    n_perturbations = draw(st.integers(8, 25))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    present = rng.random((n_perturbations, n_states)) < draw(st.sampled_from([0.7, 1.0]))
    present[:, :2] = True
    rows = [(f"P{p}", f"s{s}") for p, s in zip(*np.nonzero(present), strict=True) for _ in range(rng.integers(1, 4))]
    rows += [("control", f"s{s}") for s in range(n_states) for _ in range(rng.integers(3, 12))]
    return pd.DataFrame(rows, columns=["condition", "cell_type"], index=[f"c{i}" for i in range(len(rows))])


@st.composite
def combination_screens(draw):
    """Draw a screen of singles and doubles; not all are in every state, and some doubles lack a single."""
    n_states, n_singles = draw(st.integers(1, 3)), draw(st.integers(4, 10))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    singles = [f"P{i}" for i in range(n_singles)]
    doubles = [f"{a}+{b}" for i, a in enumerate(singles) for b in singles[:i] if rng.random() < 0.5]
    chance = draw(st.sampled_from([0.8, 1.0]))
    rows = [(name, f"s{s}") for s in range(n_states) for name in (*singles, *doubles) if rng.random() < chance]
    rows += [("control", f"s{s}") for s in range(n_states) for _ in range(rng.integers(3, 9))]
    return pd.DataFrame(rows, columns=["condition", "cell_type"], index=[f"c{i}" for i in range(len(rows))])


def singles_of(name):
    """Return the single perturbations of a condition."""
    return frozenset(name.split("+"))


def assert_valid(obs, split):
    """Check what holds for every split: no pair in two parts, no empty part, controls in all states of all parts."""
    assert list(split.index) == list(obs.index)
    assert set(split.dropna()) == set(PARTS)
    parts = {part: pairs_of(obs, split, part) for part in PARTS}
    assert sum(map(len, parts.values())) == len(set().union(*parts.values())), "a pair is in two parts"
    for part, pairs in parts.items():
        assert pairs
        controls = obs[(split == part).to_numpy() & (obs["condition"] == "control").to_numpy()]
        assert {state for state, _ in pairs} <= set(controls["cell_type"])
    return parts
