"""Save the state of a training in a background thread, so that a killed training can resume from it."""

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

#: Largest share of a training's time that saving takes. A kill loses at most the time between two saves.
SHARE = 1 / 20
#: Assumed speed of the first save, in bytes per second; later saves are timed.
_FIRST_GUESS = 200e6


class CheckpointWriter(TorchCheckpointIO):
    """Write checkpoints in the thread of an :class:`AsyncCheckpointIO`; on CUDA devices, in a separate stream.

    Attributes
    ----------
    busy
        Whether a checkpoint is being written.
    seconds
        Duration of the last write.
    """

    def __init__(self) -> None:
        self.busy, self.seconds = False, 0.0

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a temporary file and rename it, so that a kill leaves either the old checkpoint or the new one."""
        start, self.busy = time.monotonic(), True
        try:
            with _own_stream(), atomic_path(path) as file:
                torch.save(checkpoint, file)
        finally:
            self.busy, self.seconds = False, time.monotonic() - start


class SaveLatest(ModelCheckpoint):
    """Save the state of the training after an epoch, but skip epochs if saving would take over 5% of the time.

    Parameters
    ----------
    folder
        Folder of ``latest.ckpt``.
    writer
        The writer of the file; its writing time counts towards the 5%.
    """

    def __init__(self, folder: Path, writer: CheckpointWriter) -> None:
        super().__init__(folder, "latest", enable_version_counter=False)
        self._writer = writer
        # Time at which the last save began, and the seconds for which the training waited for it.
        self._began, self._blocked = 0.0, 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Delay the first save in proportion to its expected duration."""
        # A file holds the weights, two moments of Adam for each weight, and the best weights.
        n_bytes = 4 * sum(weight.numel() * weight.element_size() for weight in pl_module.parameters())
        self._began, self._blocked = time.monotonic(), n_bytes / _FIRST_GUESS

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save if it is time."""
        self._save_if_due(super().on_train_epoch_end, trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save if it is time."""
        self._save_if_due(super().on_validation_end, trainer, pl_module)

    def _save_if_due(self, save: Callable[..., None], trainer: L.Trainer, module: L.LightningModule) -> None:
        now = time.monotonic()
        due = not self._writer.busy and now >= self._began + (self._blocked + self._writer.seconds) / SHARE
        # All processes have to save together, so the first one decides for all.
        if trainer.strategy.broadcast(due):
            saved_at, self._writer.busy = self._last_global_step_saved, True
            save(trainer, module)
            if self._last_global_step_saved != saved_at:  # Lightning saves in one of the two hooks
                self._began, self._blocked = now, time.monotonic() - now
            else:
                self._writer.busy = False


@contextmanager
def _own_stream() -> Iterator[None]:
    """Run this thread's CUDA copies after the training work queued so far, in parallel with later work."""
    if not torch.cuda.is_initialized():
        yield
        return
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.default_stream())
    with torch.cuda.stream(stream):
        yield
    stream.synchronize()
