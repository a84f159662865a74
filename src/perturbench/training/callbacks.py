"""Callbacks that record losses, seed every epoch and log progress."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    import lightning as L

    from perturbench.models.base import PerturbationModel

logger = logging.getLogger(__name__)
#: The entry of a checkpoint with the recorded losses.
LOSSES = "losses"


class RecordLosses(Callback):
    """Record all terms of the loss in each epoch; a resumed training continues the table.

    Attributes
    ----------
    table
        One list per column: ``epoch``, counted from 1, ``train_loss``, ``val_loss`` and the other terms; NaN if an
        epoch did not compute a term.
    """

    def __init__(self) -> None:
        self.table: dict[str, list[float]] = {"epoch": [], "train_loss": [], "val_loss": []}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: PerturbationModel) -> None:  # type: ignore[override]
        """Add the losses of the epoch."""
        losses = {"epoch": trainer.current_epoch + 1, **pl_module.epoch_losses}
        n_before = len(self.table["epoch"])
        for name in [*self.table, *(name for name in losses if name not in self.table)]:
            self.table.setdefault(name, [float("nan")] * n_before).append(losses.get(name, float("nan")))

    def state_dict(self) -> dict[str, Any]:
        """Return the table, to be saved."""
        return {LOSSES: self.table}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue a saved table."""
        self.table = {name: list(values) for name, values in state_dict[LOSSES].items()}


class SeedEpochs(Callback):
    """Seed every epoch, so that a resumed training draws the same random numbers as an uninterrupted one."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seed torch's generators."""
        torch.manual_seed(1_000_003 * self.seed + trainer.current_epoch + 7_919 * trainer.global_rank)


class LogLosses(Callback):
    """Log the losses every few epochs, for log files, which show no progress bar."""

    def __init__(self, every_n_epochs: int) -> None:
        self.every_n_epochs = every_n_epochs

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: PerturbationModel) -> None:  # type: ignore[override]
        """Log the losses if it is time."""
        epoch = trainer.current_epoch + 1
        if epoch % self.every_n_epochs == 0:
            losses = ", ".join(f"{name} {value:.5g}" for name, value in pl_module.epoch_losses.items())
            logger.info("epoch %d: %s", epoch, losses)
