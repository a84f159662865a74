"""The predicted side of an evaluation, reduced to what metrics need."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

from perturbench.analysis.profiles.base import Profiles
from perturbench.analysis.profiles.cells import Cells, sum_with_squares
from perturbench.data.group_sums import GroupSums
from perturbench.data.groups import Groups, pair_name
from perturbench.errors import PerturbenchError, listing, require_choice

if TYPE_CHECKING:
    import anndata as ad

    from perturbench.analysis.profiles.reference import Reference


logger = logging.getLogger(__name__)
Negative = Literal["refuse", "clip"]
Missing = Literal["refuse", "report"]


class Prediction(Profiles):
    """What a model predicts for the pairs of a reference.

    Parameters
    ----------
    name
        Name of the model.
    reference
        The observed side.
    means
        Mean expression of each pair, ``(n_pairs, n_genes)``; NaN for a pair that is not predicted.
    counts
        Number of cells of each pair, ``(n_pairs,)``; 1 each if it is not given.
    cells
        Single cells, for metrics that need them; ``None`` if only means are known.
    negative
        Whether negative means are an error (``refuse``) or count as 0 (``clip``) where their logarithm is taken.
    """

    def __init__(
        self,
        name: str,
        reference: Reference,
        means: np.ndarray,
        counts: np.ndarray | None = None,
        cells: Cells | None = None,
        negative: Negative = "refuse",
    ) -> None:
        super().__init__()
        require_choice("negative", negative, ("refuse", "clip"))
        self.name, self.reference, self.means, self.cells, self.negative = name, reference, means, cells, negative
        self.counts = np.ones(len(means), dtype=int) if counts is None else counts
        self.sums = None

    @classmethod
    def from_adata(
        cls,
        adata: ad.AnnData,
        reference: Reference,
        name: str = "prediction",
        negative: Negative = "refuse",
        missing: Missing = "refuse",
    ) -> Prediction:
        """Reduce predicted cells, or pseudobulks, to group means.

        Parameters
        ----------
        adata
            ``(n_rows, n_genes)``; sparse, dense or backed. Genes are aligned by name. Control cells, and pairs that
            the reference does not have, are ignored.
        reference, name, negative
            See the class.
        missing
            Whether a pair without predicted cells is an error (``refuse``) or scored NaN (``report``).

        Raises
        ------
        PerturbenchError
            If genes, columns or pairs are missing, or values are not finite.
        """
        require_choice("missing", missing, ("refuse", "report"))
        groups = Groups.from_obs(adata.obs, reference.keys)
        cells = Cells(adata.X, groups.pair_codes(reference.pairs), _gene_order(adata, reference, name))
        sums = GroupSums(len(reference.pairs), len(reference.genes))
        for codes, block in cells.blocks():
            _require_finite(block, codes, reference, name)
            sums.add(block, codes)
        absent = [pair for pair, count in zip(reference.pairs, sums.counts, strict=True) if count == 0]
        if absent:
            message = (
                f"'{name}' has no cells for {len(absent)} of {len(reference.pairs)} pairs: "
                f"{listing(map(pair_name, absent))}"
            )
            if missing == "refuse" or len(absent) == len(reference.pairs):
                raise PerturbenchError(f"{message}; predict them, or pass missing='report' to score the others.")
            logger.warning("%s; they are scored NaN.", message)
        if extra := set(groups.pairs()) - set(reference.pairs):
            logger.info("'%s' predicts %d pairs that the reference does not have; they are ignored.", name, len(extra))
        return cls(name, reference, sums.means, sums.counts, cells, negative)

    @cached_property
    def moments(self) -> GroupSums:
        """Sums of each pair's cells and of their squares."""
        return sum_with_squares(self.require_cells("a variance"), len(self.means), self.means.shape[1])

    @cached_property
    def nonnegative_means(self) -> np.ndarray:
        """Means for which a log fold change is defined, ``(n_pairs, n_genes)``.

        Raises
        ------
        PerturbenchError
            If a mean is negative, and ``negative`` is ``refuse``.
        """
        below = self.means < 0
        if not below.any():
            return self.means
        first = self.reference.pairs[int(np.flatnonzero(below.any(axis=1))[0])]
        message = (
            f"'{self.name}' predicts {int(below.sum())} negative means of log-normalised expression, "
            f"the lowest {self.means[below].min():.3g}, the first for {pair_name(first)}"
        )
        if self.negative == "refuse":
            raise PerturbenchError(
                f"{message}; log fold changes need means of at least 0. Predict no negative means, or pass "
                "negative='clip' to count them as 0."
            )
        logger.info("%s; they count as 0 in log fold changes.", message)
        return np.maximum(self.means, 0.0)


def _gene_order(adata: ad.AnnData, reference: Reference, name: str) -> np.ndarray | None:
    """Return the columns of the reference's genes in a prediction; ``None`` if both have the same genes in order."""
    if adata.var_names.equals(reference.genes):
        return None
    if adata.var_names.has_duplicates:
        duplicated = adata.var_names[adata.var_names.duplicated()]
        raise PerturbenchError(
            f"'{name}' has gene names that occur more than once: {listing(duplicated)}; make them unique."
        )
    positions = adata.var_names.get_indexer(reference.genes)
    if (positions < 0).any():
        absent = reference.genes[positions < 0]
        raise PerturbenchError(
            f"'{name}' lacks {len(absent)} of {len(reference.genes)} genes of the reference: {listing(absent)}; "
            "predict all of them."
        )
    if extra := adata.n_vars - len(reference.genes):
        logger.info("'%s' predicts %d genes that the reference does not have; they are ignored.", name, extra)
    return positions


def _require_finite(values: Any, codes: np.ndarray, reference: Reference, name: str) -> None:
    data = values.data if sp.issparse(values) else values
    if np.isfinite(data).all():
        return
    # Rows that are not evaluated (code -1), such as a prediction's own controls, may hold anything.
    dense = values.toarray() if sp.issparse(values) else values
    bad = ~np.isfinite(dense) & (codes >= 0)[:, None]
    if bad.any():
        first = codes[np.flatnonzero(bad.any(axis=1))[0]]
        raise PerturbenchError(
            f"'{name}' has {int(bad.sum())} predicted values that are NaN or infinite, "
            f"the first for {pair_name(reference.pairs[first])}; predictions must be finite."
        )
