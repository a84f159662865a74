"""Fit a model with Lightning; a killed training resumes."""

from __future__ import annotations

import json
import logging
import math
import shutil
import signal
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.plugins.io import AsyncCheckpointIO

from perturbench.errors import PerturbenchError
from perturbench.provenance import KEY, Stamp
from perturbench.training.best_checkpoint import KeepBest
from perturbench.training.callbacks import LOSSES, LogLosses, RecordLosses, SeedEpochs
from perturbench.training.checkpoints import read_checkpoint
from perturbench.training.saving import CheckpointWriter, SaveLatest
from perturbench.training.settings import TrainingSettings
from perturbench.training.steps import prepare_steps
from perturbench.training.trainer import (
    explain_device_errors,
    fast_arithmetic,
    is_cuda,
    quiet_lightning,
    training_precision,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.loggers import Logger

    from perturbench.data.loading.datamodule import PerturbationDataModule
    from perturbench.models.base import PerturbationModel

_log = logging.getLogger(__name__)


def fit(
    model: PerturbationModel,
    datamodule: PerturbationDataModule,
    settings: TrainingSettings | None = None,
    *,
    seed: int = 0,
    logger: Logger | bool = False,
    callbacks: Sequence[Callback] = (),
    resume_dir: str | Path | None = None,
    stamp: Stamp | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Train a model and return its best checkpoint.

    Parameters
    ----------
    model, datamodule
        The model to train, and its data.
    settings
        Settings of the training; the defaults of :class:`TrainingSettings` if not given.
    seed
        Seed of the trainer's random numbers; the model's initial weights were drawn when it was built.
    logger, callbacks
        A Lightning logger, and callbacks in addition to those of this function.
    resume_dir
        Folder for the state of an unfinished training. A killed training resumes from the last state saved there if
        that state has the same stamp. The folder is removed at the end.
    stamp
        The record of everything that the result depends on.
    **changes
        Fields of :class:`TrainingSettings` that differ from ``settings``: ``fit(model, datamodule, max_epochs=20)``.

    Returns
    -------
    A Lightning checkpoint, loadable with ``weights_only=True``; see :func:`load_model`. ``losses`` is the table
    of :class:`perturbench.training.callbacks.RecordLosses`; it includes the epochs before a training was resumed.

    Raises
    ------
    PerturbenchError
        If a setting is unknown or out of range, the loss was never finite, or a strategy would run the whole command
        once per device.
    """
    settings = TrainingSettings.override(settings, changes)
    precision = training_precision(settings.precision, settings.accelerator)
    settings = settings.model_copy(update={"precision": precision})
    model.gradient_clip_val, model.plateau = settings.gradient_clip_val, settings.lr_scheduler
    if settings.compile is True or (settings.compile == "auto" and is_cuda(settings.accelerator)):
        model.step_by_itself()
    model.training_record["training_pairs"] = [[*state, name] for state, name in datamodule.pairs("train")]
    with nullcontext(resume_dir) if resume_dir else tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        last = _prepare_resume(folder, stamp or Stamp.make())
        best, losses = KeepBest(folder), RecordLosses()
        L.seed_everything(seed, workers=True, verbose=False)
        with quiet_lightning(), fast_arithmetic(), explain_device_errors(settings.accelerator):
            if model.closed_form:
                trainer = _closed_form_trainer(settings, [best, *callbacks], logger)
            else:
                trainer = _trainer(model, settings, folder, [best, losses, SeedEpochs(seed), *callbacks], logger)
            prepare_steps(model, trainer, settings.compile)
            _fit_interruptibly(trainer, model, datamodule, last)
            model.take_step = None  # frees the memory of captured graphs
        checkpoint = best.best()
        if not math.isfinite(checkpoint["perturbench_model"]["val_loss"]):
            raise PerturbenchError(
                f"training of {type(model).__name__} ended without a finite val_loss after "
                f"{trainer.current_epoch} epochs; lower the learning rate (lr={model.lr:g})."
            )
        shutil.rmtree(folder, ignore_errors=True)
    return {**checkpoint, LOSSES: losses.table}


def _trainer(
    model: PerturbationModel,
    settings: TrainingSettings,
    folder: Path,
    callbacks: Sequence[Callback],
    logger: Logger | bool,
) -> L.Trainer:
    """Return a trainer with early stopping that saves the state of the training in the folder."""
    interactive, writer = sys.stderr.isatty(), CheckpointWriter()
    stop_early = EarlyStopping("val_loss", patience=settings.patience)
    lines = [] if interactive else [LogLosses(settings.log_every_n_epochs)]
    return L.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        strategy=_strategy(settings.strategy, settings.devices),
        use_distributed_sampler=False,
        precision=settings.precision,  # type: ignore[arg-type]
        max_epochs=settings.max_epochs,
        min_epochs=min(settings.min_epochs, settings.max_epochs),
        gradient_clip_val=settings.gradient_clip_val if model.automatic_optimization else None,
        callbacks=[stop_early, *callbacks, SaveLatest(folder, writer), *lines],
        plugins=[AsyncCheckpointIO(writer)],
        logger=logger,
        deterministic="warn",
        enable_progress_bar=interactive,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,  # Lightning warns about epochs with fewer steps than this
    )


def _closed_form_trainer(settings: TrainingSettings, callbacks: Sequence[Callback], logger: Logger | bool) -> L.Trainer:
    """Return a trainer that takes no step: the model is computed when the training starts."""
    return L.Trainer(
        accelerator=settings.accelerator,
        devices=1,
        precision=settings.precision,  # type: ignore[arg-type]
        max_epochs=1,
        limit_train_batches=1,
        callbacks=list(callbacks),
        logger=logger,
        deterministic="warn",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )


def _strategy(strategy: str, devices: int | str) -> str:
    if strategy == "auto":
        return "auto" if devices in (1, "1") else "ddp_spawn"
    if strategy.startswith(("ddp", "fsdp", "deepspeed")) and not strategy.startswith(("ddp_spawn", "ddp_fork")):
        raise PerturbenchError(
            f"trainer.strategy '{strategy}' starts the whole command again for every device; use ddp_spawn."
        )
    return strategy


def _fit_interruptibly(
    trainer: L.Trainer, model: PerturbationModel, datamodule: PerturbationDataModule, last: Path | None
) -> None:
    """Fit; raise KeyboardInterrupt on Ctrl-C, where Lightning would exit and ignore every later interrupt."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(model, datamodule, ckpt_path=last, weights_only=True)
    except SystemExit:
        if not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


def _prepare_resume(folder: Path, stamp: Stamp) -> Path | None:
    """Return the checkpoint to resume from; empty the folder if it belongs to another training."""
    note, latest = folder / "training.json", folder / "latest.ckpt"
    if latest.is_file() and _is_of_training(note, stamp):
        try:
            epoch = read_checkpoint(latest)["epoch"]
        except (PerturbenchError, KeyError):
            _log.warning("the state of an unfinished training cannot be read; training starts over")
        else:
            _log.info("resuming an unfinished training after epoch %d", epoch + 1)
            return latest
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    note.write_text(json.dumps({KEY: stamp.text()}))
    return None


def _is_of_training(note: Path, stamp: Stamp) -> bool:
    """Return whether the state in a folder belongs to the training with this stamp; log what differs if not."""
    try:
        before = Stamp.read(json.loads(note.read_text()))
    except (OSError, ValueError, AttributeError):
        before = None
    changed = stamp.differences(before) if before else ["its stamp cannot be read"]
    if changed:
        _log.warning("an unfinished training is not resumed: %s", "; ".join(changed))
    return not changed
