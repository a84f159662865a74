"""Settings of the scheduler that lowers learning rates, readable without torch."""

from __future__ import annotations

from pydantic import Field

from perturbench.parameters import Parameters


class PlateauSettings(Parameters):
    """When and how far the learning rate falls if ``val_loss`` does not improve.

    Attributes
    ----------
    factor
        The learning rate is multiplied by this number each time it falls.
    patience
        Number of looks at ``val_loss`` without improvement before the learning rate falls.
    frequency
        Number of epochs between two looks at ``val_loss``.
    """

    factor: float = Field(default=0.2, gt=0, lt=1)
    patience: int = Field(default=15, ge=0)
    frequency: int = Field(default=1, ge=1)
