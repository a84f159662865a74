"""Cells to evaluate on, and predictions of them."""

import pytest
from tests.analysis.predictions import KEYS, make_cells

from perturbench.analysis.profiles import Reference
from perturbench.data.sources.simulation import simulate
from perturbench.preprocessing.preparation import prepare


@pytest.fixture(scope="session")
def cells():
    raw = simulate(n_cells=1500, n_genes=80, n_states=2, n_singles=6, n_doubles=2, effect_size=1.5, seed=3)
    return prepare(raw, KEYS)


@pytest.fixture(scope="session")
def reference(cells):
    return Reference(cells, KEYS)


@pytest.fixture
def observed():
    return make_cells()


@pytest.fixture
def predicted():
    return make_cells(seed=1)
