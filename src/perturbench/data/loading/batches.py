"""Data loaders that read whole batches at once; the seed and the epoch alone determine the order of cells."""

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
    """Sample the positions of whole batches, in a new order each epoch.

    The order depends only on the seed and the epoch, so a resumed training sees the same batches as an uninterrupted
    one. In distributed training, the batches are divided among the processes.
    """

    def __init__(self, n: int, batch_size: int, *, shuffle: bool = False, seed: int = 0) -> None:
        self.n, self.batch_size, self.shuffle, self.seed, self.epoch = n, batch_size, shuffle, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the order is drawn for; Lightning calls this method."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.n_batches // _rank_and_world_size()[1])

    @property
    def n_batches(self) -> int:
        """Number of batches of all processes together."""
        return -(-self.n // self.batch_size)

    def order(self) -> np.ndarray:
        """Return the positions of all cells in the order of this epoch, ``(n,)``."""
        if self.shuffle:
            return np.random.default_rng([self.seed, self.epoch]).permutation(self.n)
        return np.arange(self.n)

    @property
    def match_seed(self) -> int:
        """Seed of the control matches; training draws new matches each epoch, so that it sees many controls."""
        return self.seed + (self.epoch if self.shuffle else 0)

    def starts(self) -> Iterator[int]:
        """Yield the position in the order at which each batch of this process starts."""
        rank, n_processes = _rank_and_world_size()
        for step in range(len(self)):
            # All processes must yield equally many batches, so the last batches may repeat the first ones.
            yield self.batch_size * ((step * n_processes + rank) % self.n_batches)

    def __iter__(self) -> Iterator[BatchIndex]:
        order, seed = self.order(), self.match_seed
        for start in self.starts():
            yield BatchIndex(order[start : start + self.batch_size], seed)


class DeviceBatches:
    """Data loader of cells that were copied to a device; batches are gathered on that device.

    The indices of a whole epoch are copied to the device at once. Batches have the same values as those of a
    :class:`torch.utils.data.DataLoader` with the same sampler, but only counterfactuals have ``ids``: looking up names
    costs as much as a small step, and training does not need them.

    Parameters
    ----------
    dataset
        Dataset of cells that were copied to the device by :meth:`CellMatrix.place`.
    sampler
        Sampler of the cells of each batch.
    """

    def __init__(self, dataset: BatchDataset, sampler: BatchSampler) -> None:
        self.dataset, self.sampler = dataset, sampler
        self.batch_sampler = None  # Lightning reads this attribute of a data loader

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        indices = self.dataset.indices(self.sampler.order(), self.sampler.match_seed)
        rows, on_device = indices.rows.numpy(), indices.to(self.dataset.cells.device)
        ids = self.dataset.cells.ids if isinstance(self.dataset, Counterfactual) else None
        for start in self.sampler.starts():
            part = slice(start, start + self.sampler.batch_size)
            batch = self.dataset.gather(on_device.part(part))
            yield batch if ids is None else batch._replace(ids=ids[rows[part]])


def _rank_and_world_size() -> tuple[int, int]:
    """Return the rank of this process and the number of processes; 0 and 1 outside of distributed training."""
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
    """Return a data loader of encoded batches.

    Parameters
    ----------
    dataset
        One of the four datasets of this package.
    batch_size
        Number of cells per batch.
    shuffle
        Whether the order of cells and the matched controls change with the epoch.
    seed
        Seed of the order of cells and of the matched controls.
    num_workers
        Number of processes that load batches; 0 loads batches in the main process. Not used for cells on a device.
    pin_memory
        Whether to put batches into page-locked memory, which a CUDA device copies fastest.
    """
    sampler = BatchSampler(len(dataset), batch_size, shuffle=shuffle, seed=seed)
    if dataset.cells.device is not None:
        return DeviceBatches(dataset, sampler)
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=sampler,
        collate_fn=_identity,  # the datasets return whole batches
        num_workers=min(num_workers, os.cpu_count() or 1),
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
        # The seeds of workers come from this generator. Drawing them from torch's global one would change the random
        # numbers of the model.
        generator=torch.Generator(),
    )


def _identity(batch: object) -> object:
    return batch
