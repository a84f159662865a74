"""``OptionalPartitionedDataset``: a folder of partitions that may be empty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedro_datasets.partitions import PartitionedDataset

if TYPE_CHECKING:
    from collections.abc import Callable


class OptionalPartitionedDataset(PartitionedDataset):
    """A ``PartitionedDataset`` that loads an empty dict instead of failing if there are no partitions."""

    def load(self) -> dict[str, Callable[[], Any]]:
        """Return a loader for each partition."""
        self._invalidate_caches()
        return super().load() if self._list_partitions() else {}

    def _exists(self) -> bool:
        return True
