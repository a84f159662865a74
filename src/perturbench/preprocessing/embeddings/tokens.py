"""Token sequences of cells for scGPT: expressed genes, or a sample of them, with binned expression values."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from perturbench.data.random import INCREMENT, scramble, uniform

#: Number of bins of the nonzero values of a cell; scGPT counts 51, because zero is one more.
N_BINS = 50
#: Streams of random numbers, so that the bin of a gene does not depend on whether the gene is sampled.
_SAMPLING, _BINNING = 1, 2


class Tokens(NamedTuple):
    """Token sequences of cells, padded to the longest sequence.

    Attributes
    ----------
    genes
        Gene tokens, ``(n_cells, n_tokens)`` int64; the first is ``<cls>``.
    values
        Expression bins from 1 to 50, ``(n_cells, n_tokens)`` float32; special tokens have the padding value.
    lengths
        Number of tokens of each cell, ``<cls>`` included, ``(n_cells,)``.
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
    """Turn cells into token sequences.

    The nonzero values of a cell are binned by 50 quantiles of the same cell, ``<cls>`` is put first, and sequences that
    are too long keep a random sample of their genes. Source: ``Dataset`` in ``scgpt/tasks/cell_emb.py``,
    ``DataCollator`` in ``scgpt/data_collator.py`` (``do_binning``, ``sampling``, ``keep_first_n_tokens=1``) and
    ``binning`` in ``scgpt/preprocess.py`` of https://github.com/bowang-lab/scGPT.

    scGPT draws the sample and the bins of tied values from one global random number generator. Here, a draw depends
    only on the seed of the cell and on the gene, so that the sequence of a cell is the same in any batch and with the
    genes in any order.

    Parameters
    ----------
    counts
        Raw counts of the genes that are in the vocabulary, ``(n_cells, n_genes)``.
    genes
        Tokens of these genes, ``(n_genes,)``.
    seeds
        Seed of each cell, ``(n_cells,)`` uint64, see :func:`cell_seeds`.
    cls_token, pad_token
        The special tokens.
    pad_value
        Value of the special tokens.
    max_length
        Largest number of tokens of a cell, ``<cls>`` included.
    """
    counts = sp.csr_matrix(counts, dtype=np.float64, copy=True)
    counts.eliminate_zeros()
    n_expressed = np.diff(counts.indptr)
    rows = np.repeat(np.arange(counts.shape[0]), n_expressed)
    gene_tokens = genes[counts.indices]
    # Sorting the genes of each cell by a random number shuffles them; the first ones are a uniform sample.
    order = np.lexsort((_uniform(seeds[rows], gene_tokens, _SAMPLING), rows))
    rank = np.arange(len(rows)) - np.repeat(counts.indptr[:-1], n_expressed)
    sampled = rank < max_length - 1
    rows, columns, entries = rows[sampled], 1 + rank[sampled], order[sampled]
    lengths = 1 + np.minimum(n_expressed, max_length - 1)
    shape = (counts.shape[0], int(lengths.max(initial=1)))

    tokens = np.full(shape, pad_token, dtype=np.int64)
    tokens[:, 0] = cls_token
    tokens[rows, columns] = gene_tokens[entries]
    values = np.zeros(shape)
    values[rows, columns] = counts.data[entries]
    # The quantiles are those of all expressed genes of a cell, not only of the sampled ones.
    draws = _uniform(np.broadcast_to(seeds[:, None], shape), tokens, _BINNING)
    bins = np.where(values > 0, _bins(values, _quantiles(counts), draws), pad_value)
    return Tokens(tokens, bins.astype(np.float32), lengths)


def cell_seeds(names: pd.Index, seed: int = 0) -> np.ndarray:
    """Return a seed for each cell, ``(n_cells,)`` uint64; it depends only on the name of the cell and ``seed``."""
    return pd.util.hash_array(names.to_numpy(dtype=object)) ^ _mix(np.full(1, seed, dtype=np.uint64))


def _quantiles(counts: sp.csr_matrix) -> np.ndarray:
    """Return 50 evenly spaced quantiles of the stored values of each cell, ``(n_cells, 50)``.

    The result equals ``numpy.quantile``, which cannot be used because cells have different numbers of values.
    """
    n_values = np.diff(counts.indptr)
    rows = np.repeat(np.arange(counts.shape[0]), n_values)
    ordered = counts.data[np.lexsort((counts.data, rows))]
    quantiles = np.zeros((counts.shape[0], N_BINS))
    filled = n_values > 0
    start, last = counts.indptr[:-1][filled, None], n_values[filled, None] - 1
    position = last * np.linspace(0, 1, N_BINS)
    below = np.floor(position).astype(np.int64)
    low, high = ordered[start + below], ordered[start + np.minimum(below + 1, last)]
    share, step = position - below, high - low
    # NumPy interpolates from the nearer end, so that rounding is the same.
    quantiles[filled] = np.where(share < 0.5, low + step * share, high - step * (1 - share))
    return quantiles


def _bins(values: np.ndarray, edges: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Return the bin of each value; a value that equals several edges gets a random bin between them."""
    # torch searches each row in its own edges; numpy.searchsorted takes only one sorted array.
    sorted_edges, sought = torch.from_numpy(edges), torch.from_numpy(values)
    above = torch.searchsorted(sorted_edges, sought, right=True).numpy()
    below = torch.searchsorted(sorted_edges, sought, right=False).numpy()
    return np.ceil(draws * (below - above) + above)


def _uniform(seeds: np.ndarray, genes: np.ndarray, stream: int) -> np.ndarray:
    """Return random numbers in [0, 1) that depend only on the cell, the gene and the stream."""
    return uniform(_mix(seeds ^ _mix(genes.astype(np.uint64) * np.uint64(4) + np.uint64(stream))))


def _mix(bits: np.ndarray) -> np.ndarray:
    return scramble(bits + INCREMENT)
