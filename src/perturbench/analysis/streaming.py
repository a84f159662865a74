"""Score predictions that arrive in batches, storing only sums and a sample of limited size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from perturbench.analysis.evaluation import score
from perturbench.analysis.metrics.distributions import MAX_CELLS
from perturbench.analysis.metrics.registry import resolve_metrics
from perturbench.analysis.profiles import Prediction, Reference, SampledCells
from perturbench.data.group_sums import GroupSums

if TYPE_CHECKING:
    from collections.abc import Sequence

    import anndata as ad
    import pandas as pd

    from perturbench.data.groups import Keys, Pair


class StreamedEvaluation:
    """Score a model while it predicts, without holding all predicted cells in memory.

    Parameters
    ----------
    observed
        Observed cells of the pairs and the controls of their states, log-normalised, ``(n_cells, n_genes)``.
    keys
        Columns of ``obs`` that hold the perturbation and the covariates.
    pairs
        (state, perturbation) pairs that the model predicts; the codes of a batch are positions in this list.
    metrics
        Name of a profile, or names of metrics.
    """

    def __init__(self, observed: ad.AnnData, keys: Keys, pairs: Sequence[Pair], metrics: str | list[str]) -> None:
        self.metrics = resolve_metrics(metrics)
        self._reference = Reference(observed, keys)
        # The reference sorts its pairs; the dataset may have them in another order.
        self._positions = np.array([self._reference.pairs.index(pair) for pair in pairs])
        n_pairs = len(self._reference.pairs)
        self._sums = GroupSums(n_pairs, len(self._reference.genes))
        #: Whether a metric needs cells; otherwise sums of the pairs suffice, see :meth:`add_sums`.
        self.needs_cells = any(metric.needs == "cells" for metric in self.metrics)
        self._sample = SampledCells(n_pairs, MAX_CELLS) if self.needs_cells else None

    def add(self, predicted: np.ndarray, pair_codes: np.ndarray) -> None:
        """Add predicted cells ``(n_cells, n_genes)`` and the position of each cell's pair, ``(n_cells,)``."""
        codes = self._positions[pair_codes]
        self._sums.add(predicted, codes)
        if self._sample is not None:
            self._sample.add(predicted, codes)

    def add_sums(self, sums: np.ndarray, counts: np.ndarray) -> None:
        """Add sums of predicted cells, ``(n_pairs, n_genes)``, and the numbers of cells, ``(n_pairs,)``."""
        self._sums.sums[self._positions] += sums
        self._sums.counts[self._positions] += counts

    def scores(self) -> pd.DataFrame:
        """Return the scores in long form, see :class:`perturbench.analysis.evaluation.Evaluation`."""
        cells = self._sample.cells() if self._sample is not None else None
        prediction = Prediction("model", self._reference, self._sums.means, self._sums.counts, cells, "clip")
        return score(prediction, self._reference, self.metrics)
