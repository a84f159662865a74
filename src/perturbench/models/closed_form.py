"""The base class of baselines that are computed from pseudobulks instead of being trained."""

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
    """Add an effect that is computed from the training pseudobulks to each control cell.

    A closed-form model runs in the same trainer as every other model, for one epoch, and ignores its batches. A
    subclass stores its results as buffers, so that the checkpoint contains them; their shapes may depend on the data.

    Parameters
    ----------
    context
        Names of the training data.
    """

    closed_form = True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.register_load_state_dict_pre_hook(_resize_buffers)

    @property
    def states(self) -> list[State]:
        """All combinations of covariate values, in the order of :meth:`state_codes`."""
        return list(product(*self.training_record["covariate_uniques"].values()))

    @abstractmethod
    def fit_pseudobulk(self, pseudobulk: Pseudobulk) -> None:
        """Compute the effects from the training data and store them with :meth:`store_buffers`."""

    @abstractmethod
    def effect(self, batch: Batch) -> torch.Tensor:
        """Return the effect of each cell's perturbation, ``(n_cells, n_genes)``, log1p CP10k."""

    def store_buffers(self, **buffers: np.ndarray) -> None:
        """Store arrays as float32 buffers of the model, under the names of the arguments."""
        for name, values in buffers.items():
            self.register_buffer(name, torch.from_numpy(values).to(self.device, torch.float32))

    def state_codes(self, batch: Batch) -> torch.Tensor:
        """Return the position of each cell's state in :attr:`states`, ``(n_cells,)``."""
        code = torch.zeros(len(batch.perturbations), dtype=torch.long, device=batch.perturbations.device)
        # Mixed radix: the last covariate varies fastest, as in itertools.product.
        for one_hot in batch.covariates.values():
            code = code * one_hot.shape[1] + one_hot.argmax(dim=1)
        return code

    def predict(self, batch: Batch) -> torch.Tensor:
        """Return the control cells plus the effects of their perturbations, ``(n_cells, n_genes)``.

        Unperturbed cells of an observed batch get no effect.
        """
        # Counterfactual cells are all perturbed, but the code of a perturbation that training does not have is all 0.
        if batch.groups is not None:
            return batch.matched_controls() + self.effect(batch)
        return batch.matched_controls() + self.effect(batch) * batch.perturbations.any(dim=1, keepdim=True)

    def on_fit_start(self) -> None:
        """Compute the model from the training cells, before the trainer's only epoch."""
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        self.fit_pseudobulk(Pseudobulk.from_adata(datamodule.adata, datamodule.groups, datamodule.rows["train"]))

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor | None:
        """Return no loss, because there is nothing to train."""
        return None

    def configure_optimizers(self) -> None:
        """Return no optimizer, because there is nothing to train."""


def _resize_buffers(model: ClosedFormModel, state_dict: dict[str, torch.Tensor], prefix: str, *_: Any) -> None:
    """Create buffers with the shapes in a checkpoint: a new model has none before it is fitted or loaded."""
    for name, values in state_dict.items():
        model.register_buffer(name.removeprefix(prefix), torch.empty_like(values))
