"""The two sides of an evaluation, observed and predicted, reduced to what metrics need."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

from perturbench.analysis.aggregation import GroupSums, blocks
from perturbench.data.groups import Groups, pair_name
from perturbench.errors import PerturbenchError, listing, require_choice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import anndata as ad

    from perturbench.data.groups import Keys

logger = logging.getLogger(__name__)
Negative = Literal["refuse", "clip"]
Missing = Literal["refuse", "report"]
SCORE_COLUMNS = ("model", "seed", "metric", "perturbation", "value")
#: z-scores are clipped here, as scanpy's scale does in the published code.
MAX_Z = 10.0


class Cells:
    """The cells of one side: a matrix that is read in blocks, and the group of each row.

    Parameters
    ----------
    x
        ``(n_cells, n_columns)``; sparse, dense or backed.
    codes
        Group of each row, ``(n_cells,)``; -1 for rows that are not used.
    columns
        Positions of the reference's genes; ``None`` if they are the columns.
    """

    def __init__(self, x: Any, codes: np.ndarray, columns: np.ndarray | None = None) -> None:
        self.x, self.codes, self.columns = x, codes, columns

    def blocks(self) -> Iterator[tuple[np.ndarray, Any]]:
        """Yield the codes and values of blocks of rows, genes in the reference's order."""
        for rows, block in blocks(self.x):
            yield self.codes[rows], block if self.columns is None else block[:, self.columns]

    def take(self, wanted: np.ndarray) -> tuple[Any, np.ndarray]:
        """Return the rows of some groups, ``(n, n_genes)`` sparse or dense, and their codes."""
        chosen = np.isin(self.codes, wanted)
        parts = []
        for rows, block in blocks(self.x):
            here = chosen[rows]
            if here.any():
                kept = block[here]
                parts.append(kept if self.columns is None else kept[:, self.columns])
        if all(map(sp.issparse, parts)):
            return sp.vstack(parts, format="csr"), self.codes[chosen]
        dense = [part.toarray() if sp.issparse(part) else part for part in parts]
        return np.concatenate(dense), self.codes[chosen]


class Side:
    """Group statistics of one side, in the order of the reference's pairs.

    Attributes
    ----------
    name
        Of the model; ``observed`` for the reference.
    means, counts
        Mean expression ``(n_pairs, n_genes)`` float64, NaN for a pair without cells; cells per pair.
    sums
        What they come from, if squares were summed.
    cells
        The cells, for metrics that need them; ``None`` if only means are known.
    """

    name: str
    means: np.ndarray
    counts: np.ndarray
    sums: GroupSums | None
    cells: Cells | None

    def __init__(self) -> None:
        self._cache: dict[Any, Any] = {}

    def remember(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what was made for a key before, or make it."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def require_cells(self, what: str) -> Cells:
        """Return the cells.

        Raises
        ------
        PerturbenchError
            If only means are known.
        """
        if self.cells is None:
            raise PerturbenchError(f"{what} needs the cells of '{self.name}', of which only means are known.")
        return self.cells


class Reference(Side):
    """What was observed: the perturbed groups, and the controls of their states.

    Parameters
    ----------
    adata
        Log-normalised cells, ``(n_cells, n_genes)``, of the perturbations to evaluate and controls of their states.
    keys
        The columns of its ``obs``.

    Attributes
    ----------
    pairs, states, state_of_pair
        The (state, perturbation) pairs, sorted; their states; the position of each pair's state, ``(n_pairs,)``.
    genes
        Names of the genes.
    control_means
        Mean of the controls of each pair's state, ``(n_pairs, n_genes)``.

    Raises
    ------
    PerturbenchError
        If there is no perturbed cell, a state has no control, or values are not finite.
    """

    def __init__(self, adata: ad.AnnData, keys: Keys) -> None:
        super().__init__()
        if taken := sorted(set(keys.covariates) & set(SCORE_COLUMNS)):
            raise PerturbenchError(
                f"covariates {listing(taken)} are named like columns of the scores ({listing(SCORE_COLUMNS)}); "
                "rename them in obs."
            )
        if adata.var_names.has_duplicates:
            doubled = adata.var_names[adata.var_names.duplicated()]
            raise PerturbenchError(f"the reference has gene names that occur more than once: {listing(doubled)}.")
        groups = Groups.from_obs(adata.obs, keys)
        self.name, self.keys, self.genes = "observed", keys, adata.var_names
        self.pairs = groups.pairs()
        if not self.pairs:
            raise PerturbenchError("the reference has no perturbed cells; nothing can be evaluated.")
        self.states = sorted({state for state, _ in self.pairs})
        n_pairs = len(self.pairs)
        own = np.array([self.states.index(s) if s in self.states else -1 for s in groups.states])[groups.state_codes]
        codes = np.where(groups.is_control & (own >= 0), n_pairs + own, groups.pair_codes(self.pairs))
        self.cells = Cells(adata.X, codes)
        self.sums = GroupSums(n_pairs + len(self.states), adata.n_vars)
        for block_codes, block in self.cells.blocks():
            self.sums.add(block, block_codes)
        self._check()
        self.state_of_pair = np.array([self.states.index(state) for state, _ in self.pairs])
        self.means, self.counts = self.sums.means[:n_pairs], self.sums.counts[:n_pairs]
        self.control_means = self.sums.means[n_pairs:][self.state_of_pair]

    def _check(self) -> None:
        assert self.sums is not None
        counts = self.sums.counts[len(self.pairs) :]
        if bare := [state for state, count in zip(self.states, counts, strict=True) if count == 0]:
            raise PerturbenchError(
                f"the reference has no control cells ('{self.keys.control}') in: {listing(bare)}; add them, both sides "
                "of a log fold change use the observed controls."
            )
        if not np.isfinite(self.sums.sums).all():
            genes = self.genes[~np.isfinite(self.sums.sums).all(axis=0)]
            raise PerturbenchError(f"the reference has NaN or infinite values in {len(genes)} genes: {listing(genes)}.")

    @cached_property
    def moments(self) -> GroupSums:
        """Sums with squares of the pairs and, after them, of the states' controls."""
        return moments_of(self.require_cells("a variance"), len(self.pairs) + len(self.states), len(self.genes))

    @cached_property
    def gene_means(self) -> np.ndarray:
        """Mean of each gene over all reference cells, ``(n_genes,)``."""
        assert self.sums is not None
        return self.sums.sums.sum(axis=0) / self.sums.counts.sum()

    @cached_property
    def gene_sds(self) -> np.ndarray:
        """Standard deviation of each gene over all reference cells (n - 1), 1 where it is 0, ``(n_genes,)``."""
        n = self.moments.counts.sum()
        assert self.moments.squares is not None
        variance = (self.moments.squares.sum(axis=0) - n * self.gene_means**2) / max(n - 1, 1)
        sd = np.sqrt(np.maximum(variance, 0.0))
        return np.where(sd > 0, sd, 1.0)

    def pairs_of_state(self, state: int) -> np.ndarray:
        """Return the positions of a state's pairs."""
        return np.flatnonzero(self.state_of_pair == state)

    def control_cells(self, state: int) -> Any:
        """Return the control cells of a state, ``(n, n_genes)`` sparse or dense."""
        return self.require_cells("this metric").take(np.array([len(self.pairs) + state]))[0]


class Prediction(Side):
    """What a model predicts for the pairs of a reference.

    Parameters
    ----------
    name
        Of the model.
    reference
        What was observed.
    means
        Mean of each pair, ``(n_pairs, n_genes)``; NaN for a pair that is not predicted.
    counts
        Cells of each pair.
    cells
        The cells, if they are kept.
    negative
        What to do with negative means where their logarithm is needed.
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
        """Reduce predicted cells or pseudobulk.

        Parameters
        ----------
        adata
            ``(n_rows, n_genes)``; sparse, dense or backed. Genes are aligned by name, controls and other pairs ignored.
        reference, name, negative
            As the class.
        missing
            Whether an absent pair is refused or left NaN.

        Raises
        ------
        PerturbenchError
            On missing genes, columns or pairs, and on values that are not finite.
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
            logger.info("'%s' predicts %d pairs that are not evaluated.", name, len(extra))
        return cls(name, reference, sums.means, sums.counts, cells, negative)

    @cached_property
    def moments(self) -> GroupSums:
        """Sums with squares of the pairs."""
        return moments_of(self.require_cells("a variance"), len(self.means), self.means.shape[1])

    @cached_property
    def positive_means(self) -> np.ndarray:
        """Means that a logarithm can be taken of, ``(n_pairs, n_genes)``.

        Raises
        ------
        PerturbenchError
            If some are negative and are to be refused.
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
                f"{message}; log fold changes need means of at least 0. Predict such, or pass negative='clip'."
            )
        logger.info("%s; clipped to 0 for log fold changes.", message)
        return np.maximum(self.means, 0.0)


class SampledCells:
    """Cells kept of a stream: at most so many of each group, the first ones.

    Parameters
    ----------
    n_groups
        How many groups.
    limit
        Cells of a group to keep.
    """

    def __init__(self, n_groups: int, limit: int) -> None:
        self._room = np.full(n_groups, limit)
        self._parts: list[np.ndarray] = []
        self._codes: list[np.ndarray] = []

    def add(self, block: np.ndarray, codes: np.ndarray) -> None:
        """Keep what there is room for of cells ``(n_cells, n_genes)`` of groups ``(n_cells,)``."""
        order = np.argsort(codes, kind="stable")
        counts = np.bincount(codes, minlength=len(self._room))
        place = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
        kept = order[place < self._room[codes[order]]]
        self._room -= np.minimum(self._room, counts)
        if len(kept):
            self._parts.append(block[kept])
            self._codes.append(codes[kept])

    def cells(self) -> Cells:
        """Return what was kept."""
        return Cells(np.concatenate(self._parts), np.concatenate(self._codes))


def moments_of(cells: Cells, n_groups: int, n_genes: int) -> GroupSums:
    """Sum cells and their squares per group."""
    sums = GroupSums(n_groups, n_genes, squares=True)
    for codes, block in cells.blocks():
        sums.add(block, codes)
    return sums


def scaled_means(side: Side, reference: Reference) -> np.ndarray:
    """Return the mean z-score per pair, with the reference's mean and sd and clipped at ±10, ``(n_pairs, n_genes)``."""
    cells, n_pairs = side.require_cells("the aggregation 'scaled'"), len(reference.pairs)
    sums = GroupSums(n_pairs, len(reference.genes))
    for codes, block in cells.blocks():
        used = np.flatnonzero((codes >= 0) & (codes < n_pairs))
        for part in np.array_split(used, max(1, -(-len(used) // 2048))):
            dense = block[part].toarray() if sp.issparse(block) else block[part]
            z = (dense - reference.gene_means) / reference.gene_sds
            sums.add(np.clip(z, -MAX_Z, MAX_Z), codes[part])
    return sums.means


def _gene_order(adata: ad.AnnData, reference: Reference, name: str) -> np.ndarray | None:
    """Return the positions of the reference's genes in a prediction; ``None`` if they are the same."""
    if adata.var_names.equals(reference.genes):
        return None
    if adata.var_names.has_duplicates:
        doubled = adata.var_names[adata.var_names.duplicated()]
        raise PerturbenchError(f"'{name}' has gene names that occur more than once: {listing(doubled)}.")
    positions = adata.var_names.get_indexer(reference.genes)
    if (positions < 0).any():
        absent = reference.genes[positions < 0]
        raise PerturbenchError(
            f"'{name}' lacks {len(absent)} of {len(reference.genes)} genes of the reference: {listing(absent)}; "
            "predict all of them."
        )
    if extra := adata.n_vars - len(reference.genes):
        logger.info("'%s' predicts %d genes that are not evaluated.", name, extra)
    return positions


def _require_finite(values: Any, codes: np.ndarray, reference: Reference, name: str) -> None:
    data = values.data if sp.issparse(values) else values
    if np.isfinite(data).all():
        return
    dense = values.toarray() if sp.issparse(values) else values
    bad = ~np.isfinite(dense) & (codes >= 0)[:, None]
    if bad.any():
        first = codes[np.flatnonzero(bad.any(axis=1))[0]]
        raise PerturbenchError(
            f"'{name}' has {int(bad.sum())} predicted values that are NaN or infinite, "
            f"the first for {pair_name(reference.pairs[first])}; predictions must be finite."
        )
