"""How often the state of a training is saved."""

import math
import time

import pytest
from tests.training.interrupted import Stop, run


def test_slow_saves_are_thinned_out(module, tmp_path, monkeypatch):
    class StopAndSaveSlowly(Stop):
        def on_save_checkpoint(self, trainer, pl_module, checkpoint):
            time.sleep(0.2)

    monkeypatch.setattr("perturbench.training.saving._FIRST_GUESS", math.inf)
    monkeypatch.setattr("perturbench.training.saving.SHARE", 1e-6)
    with pytest.raises(RuntimeError, match="broken off"):
        run(module, tmp_path / "unfinished", StopAndSaveSlowly(at=3))
    again = Stop()
    run(module, tmp_path / "unfinished", again)
    assert again.epochs == [1, 2, 3]
