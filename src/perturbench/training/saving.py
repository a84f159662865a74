"""Saving the state of a training, from which a killed one resumes, in a thread and in little of its time."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from perturbench.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import lightning as L

#: All saving together takes at most this share of a training's time; a kill loses at most as much.
SHARE = 1 / 20
#: Assumed speed of the first save, bytes per second; later ones are timed.
_FIRST_GUESS = 200e6


class CheckpointWriter(TorchCheckpointIO):
    """Write checkpoints in a thread of :class:`AsyncCheckpointIO`; a CUDA device copies on a stream of its own.

    Attributes
    ----------
    busy
        Whether a checkpoint is being written.
    seconds
        How long the last one took.
    """

    def __init__(self) -> None:
        self.busy, self.seconds = False, 0.0

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint aside and rename it, so that a kill leaves the old one or the new one."""
        start, self.busy = time.monotonic(), True
        try:
            with _own_stream(), atomic_path(path) as file:
                torch.save(checkpoint, file)
        finally:
            self.busy, self.seconds = False, time.monotonic() - start


class SaveLatest(ModelCheckpoint):
    """Save the state of the training after an epoch, so that a killed one can resume, in at most 5% of the time.

    Parameters
    ----------
    folder
        Where ``latest.ckpt`` is written.
    writer
        Writes it; its time counts.
    """

    def __init__(self, folder: Path, writer: CheckpointWriter) -> None:
        super().__init__(folder, "latest", enable_version_counter=False)
        self._writer = writer
        # When the last save began, and for how many seconds it made the training wait.
        self._began, self._blocked = 0.0, 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put off the first save by what it is expected to take."""
        # Weights, two moments of Adam and the best weights.
        n_bytes = 4 * sum(weight.numel() * weight.element_size() for weight in pl_module.parameters())
        self._began, self._blocked = time.monotonic(), n_bytes / _FIRST_GUESS

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, unless it is too early."""
        self._save_if_due(super().on_train_epoch_end, trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, unless it is too early."""
        self._save_if_due(super().on_validation_end, trainer, pl_module)

    def _save_if_due(self, save: Callable[..., None], trainer: L.Trainer, module: L.LightningModule) -> None:
        now = time.monotonic()
        due = not self._writer.busy and now >= self._began + (self._blocked + self._writer.seconds) / SHARE
        # All processes of a training save together, so one of them decides.
        if trainer.strategy.broadcast(due):
            saved_at = self._last_global_step_saved
            save(trainer, module)
            if self._last_global_step_saved != saved_at:
                self._began, self._blocked = now, time.monotonic() - now


@contextmanager
def _own_stream() -> Iterator[None]:
    """Run CUDA work of this thread beside that of the training, after what is queued there."""
    if not torch.cuda.is_initialized():
        yield
        return
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.default_stream())
    with torch.cuda.stream(stream):
        yield
    stream.synchronize()
