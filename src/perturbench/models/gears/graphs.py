"""The two graphs of GEARS: genes that are expressed together, and genes that share GO terms."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from perturbench.errors import PerturbenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perturbench.data.loading.cell_matrix import CellMatrix

_BLOCK = 4096
_HOW = (
    "GEARS needs a GO annotation: a table without an index, tab-separated, may be gzipped, whose first two columns are "
    "gene symbol and GO term, one pair per line (columns 3 and 5 of a GAF file of geneontology.org; note its release "
    "date), or gene2go_all.pkl of GEARS. Name it with --params=hparams.gene2go:<file>."
)


def read_gene2go(path: str | Path) -> pd.DataFrame:
    """Read a GO annotation.

    Parameters
    ----------
    path
        A table of gene symbol, GO term and whatever else, with or without a header, or the pickle
        ``{symbol: {GO terms}}`` of GEARS (``.pkl``).

    Returns
    -------
    Columns ``gene`` and ``term``, each pair once.

    Raises
    ------
    PerturbenchError
        If the file is not there or is neither; the message says what is needed.
    """
    path = Path(str(path))
    if not path.is_file():
        raise PerturbenchError(f"GO annotation '{path}' is not there. {_HOW}")
    try:
        pairs = _read_pickle(path) if path.suffix == ".pkl" else _read_table(path)
    except (OSError, EOFError, ValueError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        raise PerturbenchError(f"GO annotation '{path}' cannot be read: {error}. {_HOW}") from error
    pairs = pairs[pairs["term"].str.startswith("GO:")].drop_duplicates(ignore_index=True)
    if pairs.empty:
        raise PerturbenchError(f"GO annotation '{path}' has no term that starts with 'GO:'. {_HOW}")
    return pairs


def go_similarity(gene2go: pd.DataFrame, nodes: Sequence[str]) -> np.ndarray:
    """Return the Jaccard index of the GO terms of each two genes, ``(n_nodes, n_nodes)``; 0 without annotation."""
    known = gene2go[gene2go["gene"].isin(nodes)]
    rows = pd.Index(nodes).get_indexer(known["gene"])
    columns, terms = pd.factorize(known["term"])
    has = sp.csr_matrix((np.ones(len(known)), (rows, columns)), shape=(len(nodes), len(terms)))
    shared = (has @ has.T).toarray()
    n_terms = shared.diagonal()
    return shared / np.maximum(n_terms[:, None] + n_terms - shared, 1)


def coexpression(cells: CellMatrix, rows: np.ndarray) -> np.ndarray:
    """Return the absolute Pearson correlation of each two genes over some cells, ``(n_genes, n_genes)``.

    It is 0 for a gene that does not vary.
    """
    blocks = [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
    total = torch.zeros(len(cells.genes), dtype=torch.float64)
    for block in blocks:
        total += cells.rows(block).sum(dim=0, dtype=torch.float64)
    mean = (total / len(rows)).float()
    product = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for block in blocks:
        centred = cells.rows(block) - mean
        product += centred.T @ centred
    deviation = product.diagonal().sqrt()
    return torch.nan_to_num(product / torch.outer(deviation, deviation)).abs().clamp(max=1).numpy()


def strongest_edges(similarity: np.ndarray, k: int, threshold: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the edges to each node from the nodes that are most similar to it.

    Parameters
    ----------
    similarity
        Symmetric, ``(n_nodes, n_nodes)``.
    k
        Edges per node, next to the one from itself.
    threshold
        Edges that are not above it get the weight 0, which is as if they were not there; so the size of a graph does
        not depend on the data.

    Returns
    -------
    Source and target of each edge ``(2, n_nodes x (k + 1))``, and its weight ``(n_nodes x (k + 1),)``; see
    :func:`n_edges`.
    """
    n_nodes = len(similarity)
    similarity = similarity.copy()
    np.fill_diagonal(similarity, 1.0)  # what the convolution gives a node without an edge from itself
    source = np.argsort(-similarity, axis=1, kind="stable")[:, : k + 1]
    weight = np.take_along_axis(similarity, source, axis=1)
    weight[weight <= threshold] = 0.0
    target = np.repeat(np.arange(n_nodes), source.shape[1])
    edges = torch.from_numpy(np.stack([source.reshape(-1), target]))
    return edges, torch.from_numpy(weight.reshape(-1).astype(np.float32))


def n_edges(n_nodes: int, k: int) -> int:
    """Return how many edges :func:`strongest_edges` gives."""
    return n_nodes * min(k + 1, n_nodes)


def _read_table(path: Path) -> pd.DataFrame:
    return pd.read_csv(
        path, sep="\t", header=None, names=["gene", "term"], usecols=[0, 1], dtype=str, na_filter=False, comment="!"
    )


def _read_pickle(path: Path) -> pd.DataFrame:
    with path.open("rb") as stream:
        terms = _SetsOnly(stream).load()
    return pd.DataFrame(
        [(gene, term) for gene, of_gene in terms.items() for term in sorted(of_gene)], columns=["gene", "term"]
    )


class _SetsOnly(pickle.Unpickler):
    """Reads dictionaries of sets of text; anything that could run code is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in {("builtins", "set"), ("__builtin__", "set")}:
            return set
        raise pickle.UnpicklingError(f"it contains a {module}.{name}")
