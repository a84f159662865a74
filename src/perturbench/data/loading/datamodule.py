"""The Lightning datamodule of one data set and its split."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import lightning as L
import numpy as np

from perturbench.data.encoding import make_context
from perturbench.data.groups import Groups
from perturbench.data.labels import PARTS, Controls, Part, align_split, evaluation_rows
from perturbench.data.loading.batches import BatchDataset, BatchLoader, batch_loader
from perturbench.data.loading.cell_matrix import CellMatrix
from perturbench.data.loading.counterfactual import CounterfactualWithReference
from perturbench.data.loading.observed import SingleCellPerturbationWithControls
from perturbench.errors import PerturbenchError, listing, require_choice

if TYPE_CHECKING:
    import anndata as ad
    import pandas as pd
    import torch

    from perturbench.data.groups import Keys
    from perturbench.data.types import Batch

logger = logging.getLogger(__name__)
PreloadToDevice = Literal["auto"] | bool


class PerturbationDataModule(L.LightningDataModule):
    """Training, validation and counterfactual batches of one data set.

    Parameters
    ----------
    adata
        Prepared cells with log-normalised ``X``, ``(n_cells, n_genes)``; all parts share one copy in memory.
    split
        Part of each cell, indexed by cell name: ``train``, ``val``, ``test`` or missing for unused cells.
    keys
        Names of the columns of ``obs`` with the perturbation and the covariates.
    batch_size
        Number of cells per batch.
    num_workers
        Number of processes that load batches; 0 loads batches in the main process.
    preload_to_device
        Whether to copy the whole expression matrix, dense, to the training device and to gather batches there, without
        worker processes. ``auto`` does so on a CUDA device if the matrix takes at most half of its free memory.
    train_on_controls
        Whether control cells are training and validation examples too. Every example is matched with a control cell
        either way.
    seed
        Seed of the order of cells and of the matched controls.
    prediction_controls
        Control cells that predictions start from and are compared with: those of ``all`` parts, or those of the
        predicted ``part`` only. Using all is not a leak, because controls are not predicted, and few controls are a
        noisy starting point, which penalises models that add an effect to it.
    max_control_cells
        Largest number of control cells per state that predictions start from; ``None`` uses all.
    embedding_key
        Key of ``obsm`` with cell embeddings.

    Raises
    ------
    PerturbenchError
        If a part is empty, a state of a part has no control cells, or ``preload_to_device`` is unknown.
    """

    def __init__(
        self,
        adata: ad.AnnData,
        split: pd.Series,
        keys: Keys,
        *,
        batch_size: int = 256,
        num_workers: int = 0,
        preload_to_device: PreloadToDevice = "auto",
        train_on_controls: bool = True,
        seed: int = 0,
        prediction_controls: Controls = "all",
        max_control_cells: int | None = None,
        embedding_key: str | None = None,
    ) -> None:
        super().__init__()
        require_choice("preload_to_device", preload_to_device, ("auto", True, False))
        self.adata, self.keys = adata, keys
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.preload_to_device, self._pin_memory = preload_to_device, False
        self.train_on_controls = train_on_controls
        self.prediction_controls, self.max_control_cells = prediction_controls, max_control_cells
        self._labels = align_split(split, adata.obs_names)
        self.rows = {part: np.flatnonzero(self._labels == part) for part in PARTS}
        self.groups = Groups.from_obs(adata.obs, keys)
        for part in PARTS:
            if not len(self.rows[part]):
                raise PerturbenchError(
                    f"the {part} part of the split has no cells; check the splitter section of the task."
                )
        self.cells = CellMatrix(adata, embedding_key)
        self.context = make_context(adata, self.groups, self.rows["train"], embedding_key)
        known = set(self.context["perturbation_uniques"])
        used = self.groups.pairs(self._labels != "")
        seen = {single for _, condition in used for single in keys.singles(condition)}
        if unseen := sorted(seen - known):
            logger.warning(
                "%d single perturbations have no training cells; models ignore them, alone and in combinations: %s",
                len(unseen),
                listing(unseen),
            )

    def setup(self, stage: str) -> None:
        """Copy the cells to the trainer's device if they are preloaded; Lightning calls this method."""
        if self.trainer is None:
            return
        device = self.trainer.strategy.root_device
        on_cuda = device.type == "cuda"
        preload = on_cuda and self.cells.fits(device) if self.preload_to_device == "auto" else self.preload_to_device
        self.cells.place(device if preload else None)
        self._pin_memory = on_cuda and not preload

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Return the batch unchanged if it was gathered on the device; Lightning calls this method."""
        if batch.perturbations.device == device:
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def pairs(self, part: Part) -> list:
        """Return the (state, perturbation) pairs of a part."""
        mask = np.zeros(self.adata.n_obs, dtype=bool)
        mask[self.rows[part]] = True
        return self.groups.pairs(mask)

    def evaluation_rows(self, part: Part) -> np.ndarray:
        """Return the rows that a part is evaluated on; see :func:`perturbench.data.labels.evaluation_rows`."""
        return evaluation_rows(self._labels, self.groups, part, self.prediction_controls)

    def observed(self, part: Part) -> SingleCellPerturbationWithControls:
        """Return the observed cells of a part, with matched controls of the same part."""
        rows = self.rows[part]
        examples = rows if self.train_on_controls else rows[~self.groups.is_control[rows]]
        return SingleCellPerturbationWithControls(
            self.cells, self.groups, examples, self.context, unknown="ignore", control_rows=rows
        )

    def counterfactuals(self, part: Part = "test") -> CounterfactualWithReference:
        """Return the counterfactuals of a part: control cells under each of its perturbations."""
        return CounterfactualWithReference(
            self.cells,
            self.groups,
            self.evaluation_rows(part),
            self.pairs(part),
            self.context,
            unknown="ignore",
            max_control_cells=self.max_control_cells,
            seed=self.seed,
        )

    def train_dataloader(self) -> BatchLoader:
        """Return shuffled batches of the training cells."""
        return self._loader(self.observed("train"), shuffle=True)

    def val_dataloader(self) -> BatchLoader:
        """Return batches of the validation cells."""
        return self._loader(self.observed("val"))

    def test_dataloader(self) -> BatchLoader:
        """Return batches of the counterfactuals of the test part."""
        return self._loader(self.counterfactuals("test"))

    def predict_dataloader(self, part: Part = "test") -> BatchLoader:
        """Return batches of the counterfactuals of a part."""
        return self._loader(self.counterfactuals(part))

    def _loader(self, dataset: BatchDataset, *, shuffle: bool = False) -> BatchLoader:
        return batch_loader(
            dataset,
            self.batch_size,
            shuffle=shuffle,
            seed=self.seed,
            num_workers=self.num_workers,
            pin_memory=self._pin_memory,
        )
