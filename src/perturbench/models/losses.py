"""The losses of a training, epoch by epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    import lightning as L

#: The entry of a checkpoint with the table.
LOSSES = "losses"
_NAMES = ("train_loss", "val_loss")


class RecordLosses(Callback):
    """Record ``train_loss`` and ``val_loss`` of each epoch; part of the state that a training resumes from.

    Attributes
    ----------
    table
        ``epoch`` (the first is 1) and the losses, a list each; empty lists before the first epoch.
    """

    def __init__(self) -> None:
        self.table: dict[str, list[float]] = {name: [] for name in ("epoch", *_NAMES)}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add a row."""
        self.table["epoch"].append(trainer.current_epoch + 1)
        for name in _NAMES:
            self.table[name].append(float(trainer.callback_metrics.get(name, float("nan"))))

    def state_dict(self) -> dict[str, Any]:
        """Return the table."""
        return {LOSSES: self.table}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with a table."""
        self.table = {name: list(values) for name, values in state_dict[LOSSES].items()}
