"""Loaders of whole batches, shuffled by seed and epoch alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from perturbench.data.loading.counterfactual import Counterfactual
from perturbench.data.loading.indices import BatchIndex
from perturbench.data.loading.observed import SingleCellPerturbation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perturbench.data.types import Batch


BatchDataset = SingleCellPerturbation | Counterfactual


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

    def order(self) -> np.ndarray:
        """Return the positions of all cells in the order of this epoch, ``(n,)``."""
        if self.shuffle:
            return np.random.default_rng([self.seed, self.epoch]).permutation(self.n)
        return np.arange(self.n)

    @property
    def match_seed(self) -> int:
        """Seed of the control matches of this epoch."""
        return self.seed + (self.epoch if self.shuffle else 0)

    def starts(self) -> Iterator[int]:
        """Yield where in the order each batch of this process starts."""
        rank, n_processes = _processes()
        for step in range(len(self)):
            # All processes yield equally many batches; the last may repeat one.
            yield self.batch_size * ((step * n_processes + rank) % self.n_batches)

    def __iter__(self) -> Iterator[BatchIndex]:
        order, seed = self.order(), self.match_seed
        for start in self.starts():
            yield BatchIndex(order[start : start + self.batch_size], seed)


class DeviceBatches:
    """Batches of cells that lie on a device, gathered there from indices that are sent once per epoch.

    The batches are those that a :class:`torch.utils.data.DataLoader` over the same sampler would make on the host.

    Parameters
    ----------
    dataset
        Its cells are on the device, see :meth:`CellMatrix.place`.
    sampler
        Chooses the cells of each batch.
    """

    def __init__(self, dataset: BatchDataset, sampler: BatchSampler) -> None:
        self.dataset, self.sampler = dataset, sampler
        self.batch_sampler = None  # Lightning looks for it

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        indices = self.dataset.indices(self.sampler.order(), self.sampler.match_seed)
        ids, rows, on_device = self.dataset.cells.ids, indices.rows.numpy(), indices.to(self.dataset.cells.device)
        for start in self.sampler.starts():
            part = slice(start, start + self.sampler.batch_size)
            yield self.dataset.gather(on_device.part(part))._replace(ids=ids[rows[part]])


def _processes() -> tuple[int, int]:
    """Return the rank of this process, and how many there are."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


BatchLoader = DataLoader | DeviceBatches


def batch_loader(
    dataset: BatchDataset,
    batch_size: int,
    *,
    shuffle: bool = False,
    seed: int = 0,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> BatchLoader:
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
        Processes that load batches; 0 loads in the main process. Cells on a device need none.
    pin_memory
        Whether batches are put where a CUDA device reads them fastest.
    """
    sampler = BatchSampler(len(dataset), batch_size, shuffle=shuffle, seed=seed)
    if dataset.cells.device is not None:
        return DeviceBatches(dataset, sampler)
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=sampler,
        collate_fn=_as_is,
        num_workers=min(num_workers, os.cpu_count() or 1),
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
        # For the seeds of workers: drawn from torch's own generator, they would change the model's random numbers.
        generator=torch.Generator(),
    )


def _as_is(batch: object) -> object:
    return batch
