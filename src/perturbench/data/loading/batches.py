"""Loaders of whole batches, shuffled by seed and epoch alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from perturbench.data.loading.cell_matrix import BatchIndex
from perturbench.data.loading.counterfactual import Counterfactual
from perturbench.data.loading.observed import SingleCellPerturbation

if TYPE_CHECKING:
    from collections.abc import Iterator


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


def _as_is(batch: object) -> object:
    return batch
