"""Fixtures: the small screen that the models of these tests are trained on, without and with cell embeddings."""

import numpy as np
import pytest
from tests.models import small_models


@pytest.fixture(scope="session")
def cells():
    """The small screen; copy it before you change it."""
    return small_models.screen()


@pytest.fixture(scope="session")
def module():
    """The datamodule of the small screen; make another one with ``make_module`` to change it."""
    return small_models.small_module()


@pytest.fixture(scope="session")
def embedded(cells):
    """A datamodule of the small screen with embeddings of 5 dimensions."""
    other = cells.copy()
    other.obsm["X_mine"] = np.random.default_rng(0).normal(size=(other.n_obs, 5)).astype(np.float32)
    return small_models.make_module(adata=other, embedding_key="X_mine", max_control_cells=5)
