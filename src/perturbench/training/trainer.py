"""Lightning's trainer without the hints that do not apply here, and with errors that name our parameters."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from perturbench.errors import PerturbenchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lightning.pytorch.callbacks import Callback

logger = logging.getLogger(__name__)
#: Loggers of Lightning's hints. The second one exists once the standalone package was imported, as MLflow does.
_HINTS = tuple(f"{package}.utilities.rank_zero" for package in ("lightning.pytorch", "pytorch_lightning"))
#: Warnings of Lightning about what is intended here: resumed folders, no optimizer, batches made in this process.
_KNOWN_WARNINGS = (
    "Checkpoint directory .* exists and is not empty",
    ".*configure_optimizers. returned .None.",
    "The '.*_dataloader' does not have many workers",
    ".*isinstance.treespec, LeafSpec.. is deprecated",
    "The dirpath has changed",
    ".*training_step. returned .None.",
    "GPU available but not used",
    "Couldn't infer the batch indices",
)


@contextmanager
def explain_device_errors(accelerator: str) -> Iterator[None]:
    """Re-raise errors about the device, naming the parameter to change."""
    try:
        yield
    except MisconfigurationException as error:
        raise PerturbenchError(
            f"accelerator '{accelerator}' cannot be used on this machine: {error} Set trainer.accelerator to cpu."
        ) from error


def is_cuda(accelerator: str) -> bool:
    """Return whether an accelerator is a CUDA device on this machine."""
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def training_precision(precision: str, accelerator: str) -> str:
    """Return the numeric precision that a training uses on this machine, see :class:`TrainingSettings`.

    float16 is made for GPUs: a CPU computes it slowly and Lightning refuses it there. The published settings ask for
    it, and a training with them has to work on a CPU too.
    """
    if precision == "auto":
        return "bf16-mixed" if is_cuda(accelerator) else "32-true"
    if precision == "16-mixed" and not is_cuda(accelerator):
        logger.info("precision 16-mixed needs a CUDA device; this training uses 32-true")
        return "32-true"
    return precision


@contextmanager
def fast_arithmetic() -> Iterator[None]:
    """Multiply float32 matrices in TF32 on a CUDA device, and do not fill new memory with NaN.

    Deterministic algorithms, which a training asks for, would otherwise fill every new tensor before it is written.
    """
    precision, deterministic = torch.get_float32_matmul_precision(), torch.utils.deterministic
    filled = deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's hints about devices and data loaders; all other warnings are shown."""
    levels = {name: logging.getLogger(name).level for name in _HINTS}
    for name in levels:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for known in _KNOWN_WARNINGS:
                warnings.filterwarnings("ignore", message=known)
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def repeatable() -> Iterator[None]:
    """Seed the random number generators inside the block, for models that sample, and restore them afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def plain_trainer(accelerator: str, *, progress: bool, callbacks: Sequence[Callback] = ()) -> L.Trainer:
    """Return a trainer that writes no files.

    Raises
    ------
    PerturbenchError
        If the machine does not have the accelerator.
    """
    with explain_device_errors(accelerator):
        return L.Trainer(
            accelerator=accelerator,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=progress,
            enable_model_summary=False,
            callbacks=list(callbacks),
        )
