"""The two graphs of GEARS: genes that are co-expressed, and genes that share GO terms."""

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

#: Number of cells whose expression is dense in memory at a time.
_BLOCK = 4096
_ANNOTATION_HELP = (
    "GEARS needs a GO annotation, in one of two formats: a tab-separated table, which may be gzipped, with gene symbol "
    "and GO term as the first two columns and one pair per line (columns 3 and 5 of a GAF file of geneontology.org; "
    "note its release date), or gene2go_all.pkl of GEARS. Set its path with --params=hparams.gene2go:<file>."
)


def read_gene2go(path: str | Path) -> pd.DataFrame:
    """Read a GO annotation.

    Parameters
    ----------
    path
        Either a tab-separated table whose first two columns are gene symbol and GO term, with or without a header, or
        the pickle ``{symbol: {GO terms}}`` of GEARS (``.pkl``).

    Returns
    -------
    A table with the columns ``gene`` and ``term``, one row per distinct pair.

    Raises
    ------
    PerturbenchError
        If the file does not exist or has another format; the message describes both formats.
    """
    path = Path(str(path))
    if not path.is_file():
        raise PerturbenchError(f"GO annotation '{path}' does not exist. {_ANNOTATION_HELP}")
    try:
        pairs = _read_pickle(path) if path.suffix == ".pkl" else _read_table(path)
    except (OSError, EOFError, ValueError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        raise PerturbenchError(f"GO annotation '{path}' cannot be read: {error}. {_ANNOTATION_HELP}") from error
    pairs = pairs[pairs["term"].str.startswith("GO:")].drop_duplicates(ignore_index=True)
    if pairs.empty:
        raise PerturbenchError(f"GO annotation '{path}' has no term that starts with 'GO:'. {_ANNOTATION_HELP}")
    return pairs


def go_similarity(gene2go: pd.DataFrame, nodes: Sequence[str]) -> np.ndarray:
    """Return the Jaccard index of the GO terms of every two genes, ``(n_nodes, n_nodes)``.

    It is the number of shared terms divided by the number of terms that either gene has; 0 for a gene without terms.
    """
    known = gene2go[gene2go["gene"].isin(nodes)]
    rows = pd.Index(nodes).get_indexer(known["gene"])
    columns, terms = pd.factorize(known["term"])
    has_term = sp.csr_matrix((np.ones(len(known)), (rows, columns)), shape=(len(nodes), len(terms)))
    n_shared = (has_term @ has_term.T).toarray()
    n_terms = n_shared.diagonal()
    n_either = n_terms[:, None] + n_terms - n_shared
    return n_shared / np.maximum(n_either, 1)


def coexpression(cells: CellMatrix, rows: np.ndarray) -> np.ndarray:
    """Return the absolute Pearson correlation of every two genes, ``(n_genes, n_genes)``.

    Parameters
    ----------
    cells
        Expression of all cells.
    rows
        Row numbers of the cells to correlate over.

    Returns
    -------
    Values between 0 and 1; 0 for a gene that does not vary.
    """
    blocks = [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
    total = torch.zeros(len(cells.genes), dtype=torch.float64)
    for block in blocks:
        total += cells.rows(block).sum(dim=0, dtype=torch.float64)
    mean = (total / len(rows)).float()
    # A second pass over centred values: sums of squares of raw values lose digits where a gene varies little.
    product = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for block in blocks:
        centred = cells.rows(block) - mean
        product += centred.T @ centred
    deviation = product.diagonal().sqrt()
    return torch.nan_to_num(product / torch.outer(deviation, deviation)).abs().clamp(max=1).numpy()


def strongest_edges(similarity: np.ndarray, k: int, threshold: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a graph in which each node has edges from itself and from the ``k`` nodes most similar to it.

    Parameters
    ----------
    similarity
        Symmetric similarity of the nodes, ``(n_nodes, n_nodes)``.
    k
        Number of edges to each node from other nodes.
    threshold
        Similarity that an edge has to exceed. Other edges stay in the graph with weight 0, which has no effect, so that
        the number of edges does not depend on the data; see :func:`n_edges`.

    Returns
    -------
    Source and target of each edge, ``(2, n_edges)``, and the weight of each edge, ``(n_edges,)``.
    """
    n_nodes = len(similarity)
    similarity = similarity.copy()
    np.fill_diagonal(similarity, 1.0)  # the convolution, too, gives weight 1 to the edge of a node from itself
    source = np.argsort(-similarity, axis=1, kind="stable")[:, : k + 1]
    weight = np.take_along_axis(similarity, source, axis=1)
    weight[weight <= threshold] = 0.0
    target = np.repeat(np.arange(n_nodes), source.shape[1])
    edges = torch.from_numpy(np.stack([source.reshape(-1), target]))
    return edges, torch.from_numpy(weight.reshape(-1).astype(np.float32))


def n_edges(n_nodes: int, k: int) -> int:
    """Return the number of edges of :func:`strongest_edges`, which the network needs before it sees the data."""
    return n_nodes * min(k + 1, n_nodes)


def _read_table(path: Path) -> pd.DataFrame:
    return pd.read_csv(
        path, sep="\t", header=None, names=["gene", "term"], usecols=[0, 1], dtype=str, na_filter=False, comment="!"
    )


def _read_pickle(path: Path) -> pd.DataFrame:
    with path.open("rb") as stream:
        terms = _SetsOnly(stream).load()
    return pd.DataFrame(
        [(gene, term) for gene, gene_terms in terms.items() for term in sorted(gene_terms)], columns=["gene", "term"]
    )


class _SetsOnly(pickle.Unpickler):
    """Unpickle dictionaries of sets of strings, and refuse everything else: a pickle could run any code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in {("builtins", "set"), ("__builtin__", "set")}:
            return set
        raise pickle.UnpicklingError(f"it contains a {module}.{name}, which is refused")
