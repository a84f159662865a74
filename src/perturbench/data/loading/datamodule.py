"""The Lightning datamodule over one data set and its split."""

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

    from perturbench.data.groups import Keys

logger = logging.getLogger(__name__)
PreloadToDevice = Literal["auto"] | bool


class PerturbationDataModule(L.LightningDataModule):
    """Training, validation and counterfactual batches of one data set.

    Parameters
    ----------
    adata
        Prepared cells: log-normalised ``X``, ``(n_cells, n_genes)``. Held once, however many parts there are.
    split
        Part of each cell, indexed by cell name: ``train``, ``val``, ``test`` or missing for unused cells.
    keys
        The columns of ``obs``.
    batch_size
        Cells per batch.
    num_workers
        Processes that load batches; 0 loads in the main process.
    preload_to_device
        Whether the device that computes holds the whole expression matrix, dense, and gathers batches itself, which
        takes no workers; ``auto`` if it is a CUDA device and the matrix takes at most half of its free memory.
    seed
        Of the order of batches and the matching of controls.
    prediction_controls
        Whether predictions start from, and are compared with, the control cells of all parts or of their own. Few
        controls make a noisy starting point, which punishes models that add to it; no answer is among them.
    max_control_cells
        Control cells per state that predictions start from; ``None`` for no bound.
    embedding_key
        Key of ``obsm`` with cell embeddings.

    Raises
    ------
    PerturbenchError
        If a part is empty, a state of a part has no control cells, or ``preload_to_device`` is something else.
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
        self.prediction_controls, self.max_control_cells = prediction_controls, max_control_cells
        self._labels = align_split(split, adata.obs_names)
        self.rows = {part: np.flatnonzero(self._labels == part) for part in PARTS}
        self.groups = Groups.from_obs(adata.obs, keys)
        for part in PARTS:
            if not len(self.rows[part]):
                raise PerturbenchError(f"the {part} part of the split has no cells; check the splitter's parameters.")
        self.cells = CellMatrix(adata, embedding_key)
        self.context = make_context(adata, self.groups, self.rows["train"], embedding_key)
        known = set(self.context["perturbation_uniques"])
        used = self.groups.pairs(self._labels != "")
        seen = {single for _, condition in used for single in keys.singles(condition)}
        if unseen := sorted(seen - known):
            logger.warning(
                "%d single perturbations are held out entirely; models see none instead, alone and in combinations: %s",
                len(unseen),
                listing(unseen),
            )

    def setup(self, stage: str) -> None:
        """Place the cells on the trainer's device, or prepare to send it batches; Lightning calls this."""
        if self.trainer is None:
            return
        device = self.trainer.strategy.root_device
        on_cuda = device.type == "cuda"
        preload = on_cuda and self.cells.fits(device) if self.preload_to_device == "auto" else self.preload_to_device
        self.cells.place(device if preload else None)
        self._pin_memory = on_cuda and not preload

    def pairs(self, part: Part) -> list:
        """Return the (state, perturbation) pairs of a part."""
        mask = np.zeros(self.adata.n_obs, dtype=bool)
        mask[self.rows[part]] = True
        return self.groups.pairs(mask)

    def evaluation_rows(self, part: Part) -> np.ndarray:
        """Return the cells that predictions of a part start from and are compared with, see :func:`evaluation_rows`."""
        return evaluation_rows(self._labels, self.groups, part, self.prediction_controls)

    def observed(self, part: Part) -> SingleCellPerturbationWithControls:
        """Return the observed cells of a part, with matched controls."""
        return SingleCellPerturbationWithControls(
            self.cells, self.groups, self.rows[part], self.context, unknown="ignore"
        )

    def counterfactuals(self, part: Part = "test") -> CounterfactualWithReference:
        """Return what a model has to predict for a part: its pairs, from control cells."""
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
        """Return shuffled batches of the training cells, controls included."""
        return self._loader(self.observed("train"), shuffle=True)

    def val_dataloader(self) -> BatchLoader:
        """Return batches of the validation cells."""
        return self._loader(self.observed("val"))

    def test_dataloader(self) -> BatchLoader:
        """Return the counterfactuals of the test part."""
        return self._loader(self.counterfactuals("test"))

    def predict_dataloader(self, part: Part = "test") -> BatchLoader:
        """Return the counterfactuals of a part."""
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
