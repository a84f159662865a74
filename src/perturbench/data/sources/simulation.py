"""Simulated screens with known effects."""

from __future__ import annotations

from itertools import combinations
from math import comb
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp
from pydantic import Field, model_validator

from perturbench.data.sparse import row_slices, stack_rows
from perturbench.errors import PerturbenchError
from perturbench.parameters import Parameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    import anndata as ad

#: Size of the dense block that counts are drawn in: 64 MB of float64, whatever the number of genes.
_BLOCK_VALUES = 2**23


class SimulationSettings(Parameters):
    """Size and noise of a simulated screen.

    Attributes
    ----------
    n_cells, n_genes
        Number of cells and genes.
    n_states
        Number of cell types, the levels of the covariate ``cell_type``.
    n_singles, n_doubles
        Number of single perturbations, and of combinations of two of them.
    control_fraction
        Fraction of cells without a perturbation.
    effect_fraction
        Fraction of genes whose expression a perturbation changes.
    effect_size
        Standard deviation of the effect on a changed gene, in natural log of its rate.
    interaction_size
        Standard deviation of a combination's deviation from the sum of its single effects, in natural log of the rate.
    mean_depth
        Expected counts per cell, before dropout.
    dispersion
        Dispersion of the negative binomial, whose variance is ``mean + dispersion * mean**2``; UMI counts have about
        0.1 to 1. 0 draws Poisson counts.
    dropout_midpoint
        Expected count of a gene at which half of its counts are lost. The probability of a loss is logistic in the log
        of the expected count, as in Splatter (Zappia et al. 2017). 0 means no dropout.
    seed
        Seed of the random number generator.
    """

    n_cells: int = Field(default=3000, gt=0)
    n_genes: int = Field(default=200, gt=0)
    n_states: int = Field(default=3, gt=0)
    n_singles: int = Field(default=12, gt=1)
    n_doubles: int = Field(default=6, ge=0)
    control_fraction: float = Field(default=0.15, gt=0, lt=1)
    effect_fraction: float = Field(default=0.1, ge=0, le=1)
    effect_size: float = Field(default=1.0, ge=0)
    interaction_size: float = Field(default=0.25, ge=0)
    mean_depth: float = Field(default=3000.0, gt=0)
    dispersion: float = Field(default=0.0, ge=0)
    dropout_midpoint: float = Field(default=0.0, ge=0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        n_pairs = comb(self.n_singles, 2)
        if self.n_doubles > n_pairs:
            raise PerturbenchError(
                f"n_doubles={self.n_doubles} of n_singles={self.n_singles}: at most {n_pairs} pairs exist."
            )
        n_groups = self.n_states * (self.n_singles + self.n_doubles + 1)
        if self.n_cells < 3 * n_groups:
            raise PerturbenchError(
                f"n_cells={self.n_cells} is too few for {n_groups} groups; use at least {3 * n_groups}."
            )
        return self


def simulate(settings: SimulationSettings | None = None, **changes: Any) -> ad.AnnData:
    """Simulate the counts of a perturbation screen with known effects.

    The log rate of a gene is a sum: its level in the state, plus the effects of the cell's perturbations, which are the
    same in every state, plus a smaller interaction for a combination. Counts are Poisson or negative binomial around a
    log-normal sequencing depth. They are drawn in blocks of cells, so memory holds the sparse counts and one dense
    block.

    Parameters
    ----------
    settings
        Size and noise of the screen; the defaults of :class:`SimulationSettings` if not given.
    **changes
        Fields of :class:`SimulationSettings` that differ from ``settings``: ``simulate(n_cells=600)``.

    Returns
    -------
    Counts ``(n_cells, n_genes)`` as CSR float32. ``varm["effects"]`` holds the true effects of the single
    perturbations and ``varm["interactions"]`` those of the combinations, ``(n_genes, n)``, in natural log, with one
    column per perturbation.

    Raises
    ------
    PerturbenchError
        If a setting is unknown or out of range, there are too few cells for every group to have three, or more
        combinations than pairs of perturbations.
    """
    # The settings are read by commands that do not need this slow import.
    import anndata as ad

    given = SimulationSettings.override(settings, changes)
    rng = np.random.default_rng(given.seed)
    pairs = list(combinations(range(given.n_singles), 2))
    chosen = [pairs[i] for i in np.sort(rng.permutation(len(pairs))[: given.n_doubles])]

    level = rng.normal(0, 1, given.n_genes) + rng.normal(0, 0.5, (given.n_states, given.n_genes))
    effects = _sparse_effects(rng, (given.n_singles, given.n_genes), given.effect_fraction, given.effect_size)
    interactions = _sparse_effects(rng, (given.n_doubles, given.n_genes), given.effect_fraction, given.interaction_size)
    shift = np.vstack(
        [
            np.zeros(given.n_genes),
            effects,
            *(effects[a] + effects[b] + interactions[i] for i, (a, b) in enumerate(chosen)),
        ]
    )
    condition, state = _draw_labels(rng, given.n_cells, given.n_states, len(shift), given.control_fraction)
    depth = rng.lognormal(np.log(given.mean_depth), 0.3, given.n_cells)
    size = max(1, _BLOCK_VALUES // given.n_genes)
    blocks = (
        _draw_counts(rng, level[state[here]] + shift[condition[here]], depth[here], given)
        for here in row_slices(given.n_cells, size)
    )
    counts = stack_rows(blocks, given.n_genes)

    width = len(str(given.n_singles))
    singles = [f"P{i + 1:0{width}d}" for i in range(given.n_singles)]
    doubles = [f"{singles[a]}+{singles[b]}" for a, b in chosen]
    genes = [f"G{i + 1}" for i in range(given.n_genes)]
    return ad.AnnData(
        counts,
        obs=_obs(condition, ["control", *singles, *doubles], state, given.n_states),
        var=pd.DataFrame(index=genes),
        varm={
            "effects": _columns(effects, genes, singles),
            "interactions": _columns(interactions, genes, doubles),
        },
    )


def _draw_counts(
    rng: np.random.Generator, log_rate: np.ndarray, depth: np.ndarray, noise: SimulationSettings
) -> sp.csr_matrix:
    """Draw the counts of a block of cells; ``log_rate`` ``(n_block, n_genes)`` is overwritten."""
    rate = np.exp(log_rate, out=log_rate)
    rate *= (depth / rate.sum(axis=1))[:, None]
    means = rate * rng.gamma(1 / noise.dispersion, noise.dispersion, rate.shape) if noise.dispersion else rate
    counts = sp.csr_matrix(rng.poisson(means).astype(np.float32))
    if noise.dropout_midpoint:
        rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
        expected = rate[rows, counts.indices]
        counts.data[rng.random(counts.nnz) * (expected + noise.dropout_midpoint) < noise.dropout_midpoint] = 0
        counts.eliminate_zeros()
    return counts


def _draw_labels(
    rng: np.random.Generator, n_cells: int, n_states: int, n_conditions: int, control_fraction: float
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the condition (0 = control) and state of each cell, every pair at least three times."""
    share = np.full(n_conditions, (1 - control_fraction) / max(1, n_conditions - 1))
    share[0] = control_fraction
    grid = np.array([(c, s) for c in range(n_conditions) for s in range(n_states)] * 3)
    rest = n_cells - len(grid)
    drawn = np.stack([rng.choice(n_conditions, rest, p=share / share.sum()), rng.integers(0, n_states, rest)], axis=1)
    labels = rng.permutation(np.concatenate([grid, drawn]))
    return labels[:, 0], labels[:, 1]


def _sparse_effects(rng: np.random.Generator, shape: tuple[int, int], fraction: float, size: float) -> np.ndarray:
    return np.where(rng.random(shape) < fraction, rng.normal(0, size, shape), 0.0)


def _obs(condition: np.ndarray, conditions: list[str], state: np.ndarray, n_states: int) -> pd.DataFrame:
    states = [f"state{i + 1}" for i in range(n_states)]
    return pd.DataFrame(
        {
            "condition": pd.Categorical.from_codes(condition, conditions),
            "cell_type": pd.Categorical.from_codes(state, states),
        },
        index=[f"cell{i}" for i in range(len(condition))],
    )


def _columns(values: np.ndarray, genes: Sequence[str], names: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(values.T, index=list(genes), columns=list(names))
