"""Cells as the sequences that scGPT reads: a sample of their expressed genes with binned values."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from perturbench.data.random import INCREMENT, scramble, uniform

#: Bins of a cell's nonzero values; scGPT's 51 count zero as one more.
N_BINS = 50
_SAMPLING, _BINNING = 1, 2


class Tokens(NamedTuple):
    """Sequences of some cells, padded to the longest.

    Attributes
    ----------
    genes
        Numbers in the vocabulary, ``(n_cells, n_tokens)`` int64; the first is ``<cls>``.
    values
        Bins of 1 to 50, ``(n_cells, n_tokens)`` float32.
    lengths
        Tokens of each cell, ``<cls>`` included, ``(n_cells,)``.
    """

    genes: np.ndarray
    values: np.ndarray
    lengths: np.ndarray


def tokenise(
    counts: sp.csr_matrix,
    genes: np.ndarray,
    seeds: np.ndarray,
    *,
    cls_token: int,
    pad_token: int,
    pad_value: float,
    max_length: int = 1200,
) -> Tokens:
    """Return the sequences of some cells.

    A cell's nonzero values are binned by their own 50 quantiles, ``<cls>`` is put first, and of longer sequences a
    random sample of the genes is kept. Source: ``Dataset`` in ``scgpt/tasks/cell_emb.py``, ``DataCollator`` in
    ``scgpt/data_collator.py`` (``do_binning``, ``sampling``, ``keep_first_n_tokens=1``) and ``binning`` in
    ``scgpt/preprocess.py`` of https://github.com/bowang-lab/scGPT. There, the sample and the bins of tied values are
    drawn from one global generator; here, a draw depends on the cell's seed and the gene alone, so that a cell's
    sequence is the same in any batch and with its genes in any order.

    Parameters
    ----------
    counts
        Raw counts of the genes that are in the vocabulary, ``(n_cells, n_genes)``.
    genes
        Their numbers in the vocabulary, ``(n_genes,)``.
    seeds
        Of each cell, ``(n_cells,)`` uint64, see :func:`cell_seeds`.
    cls_token, pad_token
        Numbers of the special tokens.
    pad_value
        Value of the special tokens.
    max_length
        Tokens of a cell, ``<cls>`` included.
    """
    counts = sp.csr_matrix(counts, dtype=np.float64, copy=True)
    counts.eliminate_zeros()
    n_expressed = np.diff(counts.indptr)
    rows = np.repeat(np.arange(counts.shape[0]), n_expressed)
    numbers = genes[counts.indices]
    order = np.lexsort((_uniform(seeds[rows], numbers, _SAMPLING), rows))
    rank = np.arange(len(rows)) - np.repeat(counts.indptr[:-1], n_expressed)
    kept = rank < max_length - 1
    rows, columns, chosen = rows[kept], 1 + rank[kept], order[kept]
    lengths = 1 + np.minimum(n_expressed, max_length - 1)
    shape = (counts.shape[0], int(lengths.max(initial=1)))

    tokens = np.full(shape, pad_token, dtype=np.int64)
    tokens[:, 0] = cls_token
    tokens[rows, columns] = numbers[chosen]
    values = np.zeros(shape)
    values[rows, columns] = counts.data[chosen]
    draws = _uniform(np.broadcast_to(seeds[:, None], shape), tokens, _BINNING)
    bins = np.where(values > 0, _bins(values, _quantiles(counts), draws), pad_value)
    return Tokens(tokens, bins.astype(np.float32), lengths)


def cell_seeds(names: pd.Index, seed: int = 0) -> np.ndarray:
    """Return a seed per cell that depends on its name, and on nothing else of the data, ``(n_cells,)`` uint64."""
    return pd.util.hash_array(names.to_numpy(dtype=object)) ^ _mix(np.full(1, seed, dtype=np.uint64))


def _quantiles(counts: sp.csr_matrix) -> np.ndarray:
    """Return the 50 evenly spaced quantiles of each cell's stored values as ``numpy.quantile`` does, ``(n_cells, 50)``.

    Cells have different numbers of values, which ``numpy.quantile`` does not take.
    """
    n_values = np.diff(counts.indptr)
    rows = np.repeat(np.arange(counts.shape[0]), n_values)
    ordered = counts.data[np.lexsort((counts.data, rows))]
    found = np.zeros((counts.shape[0], N_BINS))
    some = n_values > 0
    start, last = counts.indptr[:-1][some, None], n_values[some, None] - 1
    position = last * np.linspace(0, 1, N_BINS)
    below = np.floor(position).astype(np.int64)
    low, high = ordered[start + below], ordered[start + np.minimum(below + 1, last)]
    share, step = position - below, high - low
    found[some] = np.where(share < 0.5, low + step * share, high - step * (1 - share))
    return found


def _bins(values: np.ndarray, edges: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Return the bin of each value; one that equals several edges is in a random bin between them."""
    sorted_edges, wanted = torch.from_numpy(edges), torch.from_numpy(values)
    above = torch.searchsorted(sorted_edges, wanted, right=True).numpy()
    below = torch.searchsorted(sorted_edges, wanted, right=False).numpy()
    return np.ceil(draws * (below - above) + above)


def _uniform(seeds: np.ndarray, genes: np.ndarray, stream: int) -> np.ndarray:
    """Return a random number in [0, 1) that depends on its cell, gene and stream alone."""
    return uniform(_mix(seeds ^ _mix(genes.astype(np.uint64) * np.uint64(4) + np.uint64(stream))))


def _mix(bits: np.ndarray) -> np.ndarray:
    return scramble(bits + INCREMENT)
