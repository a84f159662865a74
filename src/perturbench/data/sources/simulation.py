"""Simulated screens with known effects."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from perturbench.data.sparse import row_slices, stack_rows
from perturbench.errors import PerturbenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Values of the dense block that counts are drawn in, whatever the number of genes: 64 MB of float64.
_BLOCK_VALUES = 2**23


def simulate(
    *,
    n_cells: int = 3000,
    n_genes: int = 200,
    n_states: int = 3,
    n_singles: int = 12,
    n_doubles: int = 6,
    control_fraction: float = 0.15,
    effect_fraction: float = 0.1,
    effect_size: float = 1.0,
    interaction_size: float = 0.25,
    mean_depth: float = 3000.0,
    dispersion: float = 0.0,
    dropout_midpoint: float = 0.0,
    seed: int = 0,
) -> ad.AnnData:
    """Simulate the counts of a perturbation screen.

    Log rates of a gene add up: its level in the state, the effects of the cell's perturbations, the same in every
    state, and for a double a smaller interaction. Counts are Poisson, or negative binomial, around a log-normal
    sequencing depth. They are drawn in blocks of cells: memory is that of the sparse counts and one block.

    Parameters
    ----------
    n_cells, n_genes
        Size.
    n_states
        Levels of ``cell_type``.
    n_singles, n_doubles
        Perturbations, and how many of their pairs are combined.
    control_fraction
        Fraction of cells without a perturbation.
    effect_fraction
        Fraction of genes that a perturbation moves.
    effect_size
        Standard deviation of an effect, in natural log of the rate.
    interaction_size
        The same of a double's deviation from the sum of its singles.
    mean_depth
        Expected counts per cell, before dropout.
    dispersion
        Of the negative binomial: its variance is ``mean + dispersion * mean**2``; UMI counts have about 0.1 to 1. 0 is
        Poisson.
    dropout_midpoint
        Expected count of a gene in a cell at which it is lost half of the time; the chance to be lost is logistic in
        the log of the expected count, as in Splatter (Zappia et al. 2017). 0 loses none.
    seed
        Of everything.

    Returns
    -------
    Counts ``(n_cells, n_genes)`` as CSR float32; ``varm["effects"]`` has the true effects of the singles and
    ``varm["interactions"]`` those of the doubles, ``(n_genes, n)``, natural log, columns named by perturbation.

    Raises
    ------
    PerturbenchError
        If there are too few cells for each perturbation to have one, or too many doubles.
    """
    pairs = list(combinations(range(n_singles), 2))
    if n_doubles > len(pairs):
        raise PerturbenchError(f"n_doubles={n_doubles} of n_singles={n_singles}: at most {len(pairs)} pairs exist.")
    n_groups = n_states * (n_singles + n_doubles + 1)
    if n_cells < 3 * n_groups:
        raise PerturbenchError(f"n_cells={n_cells} is too few for {n_groups} groups; use at least {3 * n_groups}.")
    rng = np.random.default_rng(seed)
    width = len(str(n_singles))
    singles = [f"P{i + 1:0{width}d}" for i in range(n_singles)]
    chosen = [pairs[i] for i in np.sort(rng.permutation(len(pairs))[:n_doubles])]
    doubles = [f"{singles[a]}+{singles[b]}" for a, b in chosen]

    level = rng.normal(0, 1, n_genes) + rng.normal(0, 0.5, (n_states, n_genes))
    effects = _sparse_effects(rng, (n_singles, n_genes), effect_fraction, effect_size)
    interactions = _sparse_effects(rng, (n_doubles, n_genes), effect_fraction, interaction_size)
    shift = np.vstack(
        [
            np.zeros(n_genes),
            effects,
            *(effects[a] + effects[b] + interactions[i] for i, (a, b) in enumerate(chosen)),
        ]
    )

    condition, state = _draw_labels(rng, n_cells, n_states, len(shift), control_fraction)
    depth = rng.lognormal(np.log(mean_depth), 0.3, n_cells)
    noise = _Noise(dispersion, dropout_midpoint)
    size = max(1, _BLOCK_VALUES // n_genes)
    blocks = (
        _draw_counts(rng, level[state[here]] + shift[condition[here]], depth[here], noise)
        for here in row_slices(n_cells, size)
    )
    x = stack_rows(blocks, n_genes)
    names = ["control", *singles, *doubles]
    obs = pd.DataFrame(
        {
            "condition": pd.Categorical.from_codes(condition, names),
            "cell_type": pd.Categorical.from_codes(state, [f"state{i + 1}" for i in range(n_states)]),
        },
        index=[f"cell{i}" for i in range(n_cells)],
    )
    genes = [f"G{i + 1}" for i in range(n_genes)]
    return ad.AnnData(
        x,
        obs=obs,
        var=pd.DataFrame(index=genes),
        varm={
            "effects": _columns(effects, genes, singles),
            "interactions": _columns(interactions, genes, doubles),
        },
    )


@dataclass(frozen=True)
class _Noise:
    """How counts scatter around their expectation, see :func:`simulate`."""

    dispersion: float
    dropout_midpoint: float


def _draw_counts(rng: np.random.Generator, log_rate: np.ndarray, depth: np.ndarray, noise: _Noise) -> sp.csr_matrix:
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


def _columns(values: np.ndarray, genes: Sequence[str], names: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(values.T, index=list(genes), columns=list(names))
