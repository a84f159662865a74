"""Trainings that are interrupted and resumed."""

import pytest
from lightning.pytorch.callbacks import Callback
from tests.models.small_models import train


class Stop(Callback):
    """Raise an error at the start of an epoch, and record the epochs that were started before."""

    def __init__(self, at=None, error=RuntimeError):
        self.at, self.error, self.epochs = at, error, []

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.at:
            raise self.error("broken off")
        self.epochs.append(trainer.current_epoch)


def run(module, folder, stop, fingerprint="a", name="linear", **options):
    """Train a small model for four epochs; it can resume from ``folder``."""
    options = {"max_epochs": 4, "resume_dir": folder, "fingerprint": fingerprint} | options
    return train(name, module, callbacks=[stop], **options)


def interrupt(module, folder, at=2, **options):
    """Train a small model up to the start of epoch ``at``."""
    with pytest.raises(RuntimeError, match="broken off"):
        run(module, folder, Stop(at), **options)
