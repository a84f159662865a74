"""Fixtures: the small screen that models are trained on, and every configured model trained on real data."""

import pytest
from tests.models import small_models
from tests.training import real_data

from perturbench.training.saving import SaveLatest


@pytest.fixture(scope="session")
def cells():
    """The small screen; copy it before you change it."""
    return small_models.screen()


@pytest.fixture(scope="session")
def module():
    """The datamodule of the small screen; make another one with ``make_module`` to change it."""
    return small_models.small_module()


@pytest.fixture
def save_every_epoch(monkeypatch):
    """Save the state of a training after every epoch, however long it takes, so that resumptions are predictable."""
    monkeypatch.setattr(SaveLatest, "_save_if_due", lambda self, save, trainer, module: save(trainer, module))


@pytest.fixture(scope="session", params=real_data.SETS)
def real_module(request, shared):
    """A datamodule of each development data set; use with the marker ``shared``."""
    return real_data.real_module(shared, request.param)


@pytest.fixture(scope="session")
def real_checkpoints(real_module, project):
    """The checkpoint of every configured model, trained on ``real_module``."""
    return real_data.train_all(real_module, project / "conf")
