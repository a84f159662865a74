"""The Lightning datamodule over one data set and its split."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Literal

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from perturbench.data.counterfactual import Counterfactual, CounterfactualWithReference
from perturbench.data.encoding import make_context
from perturbench.data.groups import Groups
from perturbench.data.singlecell import (
    BatchIndex,
    CellMatrix,
    SingleCellPerturbation,
    SingleCellPerturbationWithControls,
)
from perturbench.errors import PerturbenchError, listing, require_choice

if TYPE_CHECKING:
    from collections.abc import Iterator

    import anndata as ad
    import pandas as pd

    from perturbench.data.groups import Keys

logger = logging.getLogger(__name__)
BatchDataset = SingleCellPerturbation | Counterfactual
Part = Literal["train", "val", "test"]
Controls = Literal["all", "part"]
Resident = Literal["auto"] | bool
PARTS: tuple[Part, ...] = ("train", "val", "test")


class BatchSampler(Sampler[BatchIndex]):
    """Positions of whole batches, shuffled anew each epoch; every process of a distributed training gets others.

    The order depends on the seed and the epoch alone, so a resumed training sees the batches it would have seen.
    """

    def __init__(self, n: int, batch_size: int, *, shuffle: bool = False, seed: int = 0) -> None:
        self.n, self.batch_size, self.shuffle, self.seed, self.epoch = n, batch_size, shuffle, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.n_batches // _processes()[1])

    @property
    def n_batches(self) -> int:
        """Batches of all processes together."""
        return -(-self.n // self.batch_size)

    def __iter__(self) -> Iterator[BatchIndex]:
        order = np.arange(self.n)
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.n)
        seed = self.seed + (self.epoch if self.shuffle else 0)
        rank, n_processes = _processes()
        for step in range(len(self)):
            # Processes must take equally many: the last may take one that another has had.
            start = self.batch_size * ((step * n_processes + rank) % self.n_batches)
            yield BatchIndex(order[start : start + self.batch_size], seed)


def _processes() -> tuple[int, int]:
    """Return the rank of this process, and how many there are."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


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
    resident
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
        If a part is empty, a state of a part has no control cells, or ``resident`` is something else.
    """

    def __init__(
        self,
        adata: ad.AnnData,
        split: pd.Series,
        keys: Keys,
        *,
        batch_size: int = 256,
        num_workers: int = 0,
        resident: Resident = "auto",
        seed: int = 0,
        prediction_controls: Controls = "all",
        max_control_cells: int | None = None,
        embedding_key: str | None = None,
    ) -> None:
        super().__init__()
        require_choice("resident", resident, ("auto", True, False))
        self.adata, self.keys = adata, keys
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.resident, self._pin_memory = resident, False
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
        resident = on_cuda and self.cells.fits(device) if self.resident == "auto" else self.resident
        self.cells.place(device if resident else None)
        self._pin_memory = on_cuda and not resident

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

    def train_dataloader(self) -> DataLoader:
        """Return shuffled batches of the training cells, controls included."""
        return self._loader(self.observed("train"), shuffle=True)

    def val_dataloader(self) -> DataLoader:
        """Return batches of the validation cells."""
        return self._loader(self.observed("val"))

    def test_dataloader(self) -> DataLoader:
        """Return the counterfactuals of the test part."""
        return self._loader(self.counterfactuals("test"))

    def predict_dataloader(self, part: Part = "test") -> DataLoader:
        """Return the counterfactuals of a part."""
        return self._loader(self.counterfactuals(part))

    def _loader(self, dataset: BatchDataset, *, shuffle: bool = False) -> DataLoader:
        return batch_loader(
            dataset,
            self.batch_size,
            shuffle=shuffle,
            seed=self.seed,
            num_workers=0 if self.cells.device else self.num_workers,
            pin_memory=self._pin_memory,
        )


def batch_loader(
    dataset: BatchDataset,
    batch_size: int,
    *,
    shuffle: bool = False,
    seed: int = 0,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader:
    """Return a loader of whole encoded batches of one of the four datasets.

    Parameters
    ----------
    dataset
        Whose cells.
    batch_size
        Cells per batch.
    shuffle
        Whether the order, and the matched controls, change with the epoch.
    seed
        Of both.
    num_workers
        Processes that load batches; 0 loads in the main process.
    pin_memory
        Whether batches are put where a CUDA device reads them fastest.
    """
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=BatchSampler(len(dataset), batch_size, shuffle=shuffle, seed=seed),
        collate_fn=_as_is,
        num_workers=min(num_workers, os.cpu_count() or 1),
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
        # For the seeds of workers: drawn from torch's own generator, they would change the model's random numbers.
        generator=torch.Generator(),
    )


def evaluation_rows(labels: np.ndarray, groups: Groups, part: Part, controls: Controls) -> np.ndarray:
    """Return the rows of a part's perturbed cells and of its states' controls.

    Parameters
    ----------
    labels
        Part of each cell, ``(n_cells,)``; empty where it is not used.
    groups
        Codes of the same cells.
    part
        Whose perturbed cells.
    controls
        Control cells of ``all`` parts, or of the ``part`` only.

    Raises
    ------
    PerturbenchError
        If ``part`` or ``controls`` is unknown.
    """
    require_choice("part", part, PARTS)
    require_choice("controls", controls, ("all", "part"))
    wanted = labels == part
    if controls == "all":
        wanted |= groups.is_control & (labels != "")
    return np.flatnonzero(wanted)


def align_split(split: pd.Series, names: pd.Index) -> np.ndarray:
    """Return the label of each named cell, ``(n_cells,)`` of str; empty where the split does not use the cell.

    Raises
    ------
    PerturbenchError
        If the split names cells twice or that are not there, or has labels other than train, val and test.
    """
    if split.index.has_duplicates:
        raise PerturbenchError(
            f"the split names cells twice: {listing(split.index[split.index.duplicated()])}; give each one label."
        )
    if n_strangers := int((~split.index.isin(names)).sum()):
        stranger = split.index[~split.index.isin(names)][0]
        raise PerturbenchError(
            f"the split names {n_strangers} of {len(split)} cells that the data does not have, first '{stranger}'; "
            "make the split from the same data."
        )
    labels = split.reindex(names).astype(object).fillna("").to_numpy(dtype=str)
    for label in np.unique(labels):
        if label:
            require_choice("split label", label, PARTS)
    return labels


def _as_is(batch: object) -> object:
    return batch
