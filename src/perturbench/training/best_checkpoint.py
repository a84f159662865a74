"""The best checkpoint of a training: the weights of the epoch with the lowest validation loss, kept in memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    from pathlib import Path

    from perturbench.models.base import PerturbationModel


class KeepBest(Callback):
    """Keep the checkpoint of the epoch with the lowest ``val_loss``; its weights stay on their device.

    Attributes
    ----------
    checkpoint
        A Lightning checkpoint of weights and hyperparameters; empty before the first validation.
    """

    def __init__(self, folder: Path) -> None:
        self.checkpoint: dict[str, Any] = {}
        self._lowest = math.inf
        self._file = folder / "best.ckpt"

    def on_validation_end(self, trainer: L.Trainer, pl_module: PerturbationModel) -> None:  # type: ignore[override]
        """Copy the weights if ``val_loss`` is the lowest so far, or the first."""
        val_loss = pl_module.epoch_losses["val_loss"]
        if self.checkpoint and not val_loss < self._lowest:
            return
        self._lowest = val_loss if math.isfinite(val_loss) else math.inf
        self.checkpoint = {
            "epoch": trainer.current_epoch,
            "global_step": trainer.global_step,
            "pytorch-lightning_version": L.__version__,
            "state_dict": {name: value.detach().clone() for name, value in pl_module.state_dict().items()},
            "hparams_name": "kwargs",
            "hyper_parameters": dict(pl_module.hparams),
        }
        pl_module.on_save_checkpoint(self.checkpoint)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the checkpoint if several processes trained: the process that started them cannot see their memory."""
        if trainer.world_size > 1 and trainer.is_global_zero:
            torch.save(self.checkpoint, self._file)

    def best(self) -> dict[str, Any]:
        """Return the checkpoint, with its weights in main memory."""
        found = self.checkpoint or torch.load(self._file, weights_only=True, map_location="cpu")
        return {**found, "state_dict": {name: value.cpu() for name, value in found["state_dict"].items()}}

    def state_dict(self) -> dict[str, Any]:
        """Return the checkpoint, to be saved with the state of the training."""
        return {"checkpoint": self.checkpoint, "lowest": self._lowest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the checkpoint of a resumed training."""
        self.checkpoint, self._lowest = state_dict["checkpoint"], state_dict["lowest"]
