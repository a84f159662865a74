"""Settings of a training, readable without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from perturbench.models.plateau import PlateauSettings
from perturbench.parameters import Parameters


class TrainingSettings(Parameters):
    """How a model is trained.

    Attributes
    ----------
    max_epochs, min_epochs
        Largest and smallest number of epochs.
    patience
        Training stops after this many epochs without a lower ``val_loss``.
    lr_scheduler
        When and how far the learning rate falls if ``val_loss`` does not improve; ``None`` if it never falls.
    accelerator, devices, gradient_clip_val
        As in ``lightning.Trainer``.
    precision
        Numeric precision, as in ``lightning.Trainer``. ``auto`` is ``bf16-mixed`` on a CUDA device and ``32-true``
        elsewhere. ``16-mixed`` needs a CUDA device; elsewhere it is ``32-true``.
    strategy
        How several devices share the training, as in ``lightning.Trainer``. Each device gets different batches of the
        same size. ``auto`` is ``ddp_spawn`` for several devices. A model with weights that some batches do not train
        (CPA) needs ``ddp_spawn_find_unused_parameters_true``.
    compile
        Whether steps are compiled, see :func:`perturbench.training.steps.prepare_steps`.
    log_every_n_epochs
        Number of epochs between two logged lines where there is no terminal for a progress bar.
    """

    max_epochs: int = Field(default=500, ge=1)
    min_epochs: int = Field(default=5, ge=1)
    patience: int = Field(default=50, ge=1)
    lr_scheduler: PlateauSettings | None = PlateauSettings()
    accelerator: str = "auto"
    devices: int | str = 1
    strategy: str = "auto"
    precision: str = "auto"
    gradient_clip_val: float | None = Field(default=None, gt=0)
    compile: Literal["auto"] | bool = "auto"
    log_every_n_epochs: int = Field(default=10, ge=1)
