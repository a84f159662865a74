"""Baselines that are computed from pseudobulks, not trained."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from perturbench.analysis.aggregation import group_means
from perturbench.models.base import PerturbationModel

if TYPE_CHECKING:
    import torch

    from perturbench.data.datamodule import PerturbationDataModule
    from perturbench.data.groups import Pair, State
    from perturbench.data.types import Batch


@dataclass(frozen=True)
class Pseudobulk:
    """Mean expression of the training data.

    Attributes
    ----------
    pairs, states
        The perturbed (state, perturbation) pairs, and all states.
    means
        Of each pair, ``(n_pairs, n_genes)`` float64.
    control_means
        Of the controls of each state, ``(n_states, n_genes)`` float64.
    """

    pairs: list[Pair]
    states: list[State]
    means: np.ndarray
    control_means: np.ndarray

    @classmethod
    def of_training(cls, datamodule: PerturbationDataModule) -> Pseudobulk:
        """Compute the means of a datamodule's training cells, in one pass."""
        groups, pairs = datamodule.groups, datamodule.pairs("train")
        is_train = np.zeros(len(groups.state_codes), dtype=bool)
        is_train[datamodule.rows["train"]] = True
        codes = groups.pair_codes(pairs)
        codes = np.where(groups.is_control, len(pairs) + groups.state_codes, codes)
        codes[~is_train] = -1
        means = group_means(datamodule.adata, codes, len(pairs) + len(groups.states))
        return cls(pairs, list(groups.states), means[: len(pairs)], means[len(pairs) :])

    def effects(self, state: State) -> np.ndarray:
        """Return pseudobulk - control of the state's training pairs, ``(n_pairs_of_state, n_genes)``."""
        own = [row for row, pair in enumerate(self.pairs) if pair[0] == state]
        return self.means[own] - self.control_means[self.states.index(state)]


class ClosedFormModel(PerturbationModel):
    """A model whose parameters are a function of the training pseudobulks.

    It goes through the same trainer as the others: one epoch, whose batches are not used.
    """

    closed_form = True

    @abstractmethod
    def fit_pseudobulk(self, pseudobulk: Pseudobulk) -> None:
        """Set the model's buffers from the training data."""

    def on_fit_start(self) -> None:
        """Compute the model."""
        self.fit_pseudobulk(Pseudobulk.of_training(self.trainer.datamodule))  # type: ignore[attr-defined]

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor | None:
        """Do nothing: there is nothing to train."""
        return None

    def configure_optimizers(self) -> None:
        """Return no optimizer."""
