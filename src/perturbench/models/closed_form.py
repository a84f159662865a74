"""Baselines that are computed from pseudobulks, not trained."""

from __future__ import annotations

from abc import abstractmethod
from itertools import product
from typing import TYPE_CHECKING, Any

import torch

from perturbench.data.pseudobulk import Pseudobulk
from perturbench.models.base import PerturbationModel

if TYPE_CHECKING:
    import numpy as np

    from perturbench.data.encoding import Context
    from perturbench.data.groups import State
    from perturbench.data.types import Batch


class ClosedFormModel(PerturbationModel):
    """Control cells plus an effect that is a function of the training pseudobulks.

    It goes through the same trainer as the others: one epoch, whose batches are not used. A subclass stores what it
    learns in buffers, whose shapes may depend on the training data.
    """

    closed_form = True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.register_load_state_dict_pre_hook(_take_shapes)

    @property
    def states(self) -> list[State]:
        """Every combination of the covariates' values, in the order of :meth:`state_codes`."""
        return list(product(*self.training_record["covariate_uniques"].values()))

    @abstractmethod
    def fit_pseudobulk(self, pseudobulk: Pseudobulk) -> None:
        """Set the model's buffers from the training data."""

    @abstractmethod
    def effect(self, batch: Batch) -> torch.Tensor:
        """Return what the perturbation of each cell does, ``(n_cells, n_genes)``."""

    def learn(self, **buffers: np.ndarray) -> None:
        """Store arrays as float32 buffers."""
        for name, values in buffers.items():
            self.register_buffer(name, torch.from_numpy(values).to(self.device, torch.float32))

    def state_codes(self, batch: Batch) -> torch.Tensor:
        """Return the position of each cell's state in :attr:`states`, ``(n_cells,)``."""
        code = torch.zeros(len(batch.perturbations), dtype=torch.long, device=batch.perturbations.device)
        for one_hot in batch.covariates.values():
            code = code * one_hot.shape[1] + one_hot.argmax(dim=1)
        return code

    def predict(self, batch: Batch) -> torch.Tensor:
        """Return the controls, plus the effect where a cell is perturbed."""
        if batch.groups is not None:  # counterfactuals are all perturbed, also by what training never saw
            return batch.matched_controls() + self.effect(batch)
        return batch.matched_controls() + self.effect(batch) * batch.perturbations.any(dim=1, keepdim=True)

    def on_fit_start(self) -> None:
        """Compute the model."""
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        self.fit_pseudobulk(Pseudobulk.from_adata(datamodule.adata, datamodule.groups, datamodule.rows["train"]))

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor | None:
        """Do nothing: there is nothing to train."""
        return None

    def configure_optimizers(self) -> None:
        """Return no optimizer."""


def _take_shapes(model: ClosedFormModel, state_dict: dict[str, torch.Tensor], prefix: str, *_: Any) -> None:
    """Give the buffers the shapes of those to be loaded."""
    for name, values in state_dict.items():
        model.register_buffer(name.removeprefix(prefix), torch.empty_like(values))
