"""Losses of several named terms, and their means over an epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from perturbench.data.loading.pair_sums import sum_dtype
from perturbench.errors import PerturbenchError

#: A scalar loss, or named scalar terms: ``loss`` is minimised, and all terms are recorded.
Losses = torch.Tensor | Mapping[str, torch.Tensor]


class LossTerms(NamedTuple):
    """Names of the terms of a loss, and their values in one vector, ``(n_terms,)``."""

    names: tuple[str, ...]
    values: torch.Tensor


def named_terms(losses: Losses) -> Mapping[str, torch.Tensor]:
    """Return the terms of a loss by name.

    Raises
    ------
    PerturbenchError
        If none of them is called ``loss``.
    """
    if isinstance(losses, torch.Tensor):
        return {"loss": losses}
    if "loss" not in losses:
        raise PerturbenchError(
            f"loss() returned the terms {', '.join(losses)}; one of them must be called 'loss', which is minimised."
        )
    return losses


def stack_terms(terms: Mapping[str, torch.Tensor]) -> LossTerms:
    """Return the terms with their values in one vector, without gradients."""
    return LossTerms(tuple(terms), torch.stack([value.detach().float() for value in terms.values()]))


class EpochMeans:
    """Means of loss terms over the cells of an epoch, computed from running sums.

    The sums stay on the device until the end of the epoch: reading them in a step would make it wait for the device.
    """

    def __init__(self) -> None:
        # The key is the prefix and the names, because steps with the same prefix may have different terms.
        self._sums: dict[tuple[str, tuple[str, ...]], tuple[torch.Tensor, int]] = {}

    def __bool__(self) -> bool:
        return bool(self._sums)

    def add(self, prefix: str, terms: LossTerms, n_cells: int) -> None:
        """Add the terms of a batch, which are means over its cells."""
        sums, n_before = self._sums.get((prefix, terms.names), (None, 0))
        if sums is None:
            sums = torch.zeros(len(terms.names), dtype=sum_dtype(terms.values.device), device=terms.values.device)
        self._sums[prefix, terms.names] = sums.add_(terms.values, alpha=n_cells), n_before + n_cells

    def read(self, sum_over_processes: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, float]:
        """Return the mean of each term over cells, ``<prefix>_<name>``, and reset the sums.

        All sums are copied from the device at once.
        """
        counted = [torch.cat([sums, sums.new_tensor([n_cells])]) for sums, n_cells in self._sums.values()]
        remaining = sum_over_processes(torch.cat(counted)).tolist()
        totals: dict[str, tuple[float, float]] = {}
        for prefix, names in self._sums:
            *sums, n_cells = remaining[: len(names) + 1]
            del remaining[: len(names) + 1]
            for name, value in zip(names, sums, strict=True):
                value_before, n_before = totals.get(f"{prefix}_{name}", (0.0, 0.0))
                totals[f"{prefix}_{name}"] = value_before + value, n_before + n_cells
        self._sums = {}
        return {name: value / n_cells for name, (value, n_cells) in totals.items()}
