"""Fixtures: a screen with made-up GO terms, and a small GEARS that is trained on it."""

import numpy as np
import pytest
from tests.models.gears.small_gears import gears_screen, make_gears_module, train, write_table


@pytest.fixture(scope="session")
def cells():
    return gears_screen()


@pytest.fixture(scope="session")
def module(cells):
    return make_gears_module(cells)


@pytest.fixture(scope="session")
def annotation(cells):
    """Made-up GO terms of all perturbations and half of the genes: symbol -> terms."""
    rng = np.random.default_rng(0)
    terms = [f"GO:{i:07d}" for i in range(12)]
    genes = [*(f"P{i}" for i in range(1, 7)), *cells.var_names[::2]]
    return {gene: set(rng.permutation(terms)[: rng.integers(2, 7)].tolist()) for gene in genes}


@pytest.fixture(scope="session")
def gene2go(annotation, tmp_path_factory):
    return str(write_table(tmp_path_factory.mktemp("go") / "gene2go.tsv", annotation))


@pytest.fixture(scope="session")
def checkpoint(module, gene2go):
    return train(module, gene2go, max_epochs=2)
