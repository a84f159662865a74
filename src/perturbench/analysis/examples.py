"""A few predicted perturbations in detail: their cells in an embedding by scanpy, and the means of their genes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp

from perturbench.analysis.score_table import SCORE_COLUMNS, WHOLE_SPLIT
from perturbench.data.groups import Groups, pair_name
from perturbench.errors import PerturbenchError, listing

if TYPE_CHECKING:
    from collections.abc import Sequence

    import anndata as ad

    from perturbench.analysis.metrics.definitions import Metric
    from perturbench.data.groups import Keys, Pair

Embedding = Literal["pca", "umap"]
#: Largest number of examples.
MAX_EXAMPLES = 6
#: Largest number of cells of each kind in an embedding, and of genes in an example.
MAX_CELLS, MAX_GENES = 150, 600
#: Number of principal components that neighbours for a UMAP are found in.
_UMAP_COMPONENTS = 30


@dataclass(frozen=True)
class Choice:
    """A pair to show.

    Attributes
    ----------
    pair
        The state and the perturbation.
    why
        ``best``, ``median`` or ``worst`` predicted of all pairs; ``chosen`` if the user named the perturbation.
    value
        Its score.
    """

    pair: Pair
    why: str
    value: float


@dataclass(frozen=True)
class Example:
    """A predicted pair in detail.

    Attributes
    ----------
    name, why, value
        Name of the pair, why it is shown, and its score.
    cells
        ``kind`` (``control``, ``observed`` or ``predicted``) of each cell, and its position ``x``, ``y`` in the
        embedding.
    genes
        ``gene`` and its means ``control``, ``observed`` and ``predicted``; largest observed log fold changes first.
    """

    name: str
    why: str
    value: float
    cells: pd.DataFrame
    genes: pd.DataFrame


def choose_pairs(scores: pd.DataFrame, metric: Metric, perturbations: Sequence[str] = ()) -> list[Choice]:
    """Choose the best, the median and the worst predicted pair, or the pairs of some perturbations.

    Parameters
    ----------
    scores
        Scores of one model, long form; seeds are averaged. Pairs without a score take no part.
    metric
        The metric that orders the pairs.
    perturbations
        Names of perturbations to show in place of the best, the median and the worst; at most six of their pairs are.

    Raises
    ------
    PerturbenchError
        If a perturbation has no score.
    """
    states = [name for name in scores.columns if name not in SCORE_COLUMNS]
    keys = ["perturbation", *states]
    of_metric = scores[(scores["metric"] == metric.name) & (scores["perturbation"] != WHOLE_SPLIT)]
    means = of_metric.groupby(keys, observed=True)["value"].mean().dropna().reset_index()
    means = means.sort_values(["value", *keys], ascending=[metric.better == "lower", *[True] * len(keys)])
    if unknown := [name for name in perturbations if name not in set(means["perturbation"])]:
        raise PerturbenchError(
            f"reporting.examples names perturbations without a score: {listing(unknown)}; choose some of: "
            f"{listing(sorted(set(means['perturbation'])))}."
        )
    if perturbations:
        chosen = dict.fromkeys(np.flatnonzero(means["perturbation"].isin(perturbations))[:MAX_EXAMPLES], "chosen")
    else:
        last = len(means) - 1
        chosen = {}
        for row, why in ((0, "best"), (last, "worst"), (last // 2, "median")):
            if 0 <= row <= last:
                chosen.setdefault(row, why)
    rows = means.astype(dict.fromkeys(states, str)).to_dict("records")
    return [
        Choice((tuple(rows[row][name] for name in states), rows[row]["perturbation"]), why, rows[row]["value"])
        for row, why in sorted(chosen.items())
    ]


def make_examples(
    cells: ad.AnnData,
    evaluated: np.ndarray,
    predicted: ad.AnnData,
    choices: Sequence[Choice],
    keys: Keys,
    embedding: Embedding = "pca",
) -> list[Example]:
    """Return the cells and the genes of some pairs; the list is empty if a pair is predicted as one row (a pseudobulk).

    Parameters
    ----------
    cells
        Log-normalised observed cells, ``(n_cells, n_genes)``; in memory or backed by a file.
    evaluated
        Rows of the evaluated cells and of their controls.
    predicted
        Predicted cells; in memory or backed by a file.
    choices
        The pairs to show.
    keys
        Columns of ``obs`` that hold the perturbation and the covariates.
    embedding
        ``pca``, or ``umap``, which takes some seconds; scanpy computes both, for each pair from its own cells.
    """
    observed_rows, control_rows = _rows_of_pairs(cells, evaluated, choices, keys)
    codes = Groups.from_obs(predicted.obs, keys).pair_codes([choice.pair for choice in choices])
    columns = predicted.var_names.get_indexer(cells.var_names)
    examples = []
    for position, choice in enumerate(choices):
        rows = np.flatnonzero(codes == position)
        if len(rows) < 2:
            return []
        matrices = {
            "control": _read(cells, control_rows[position]),
            "observed": _read(cells, observed_rows[position]),
            "predicted": _read(predicted, rows)[:, columns],
        }
        shown = {kind: _sample(matrix) for kind, matrix in matrices.items()}
        genes = _gene_means(cells.var_names, matrices)
        examples.append(
            Example(pair_name(choice.pair), choice.why, choice.value, _embed(shown, embedding), _fewer_genes(genes))
        )
    return examples


def log_fold_change(genes: pd.DataFrame, side: str) -> pd.Series:
    """Return the log2 fold change of each gene against the controls, as the aggregation ``logfc`` defines it."""
    return np.log2(genes[side].clip(lower=0) + 0.1) - np.log2(genes["control"] + 0.1)


def _rows_of_pairs(
    cells: ad.AnnData, evaluated: np.ndarray, choices: Sequence[Choice], keys: Keys
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the rows of the observed cells of each pair, and of the control cells of its state."""
    groups = Groups.from_obs(cells.obs.iloc[evaluated], keys)
    codes = groups.pair_codes([choice.pair for choice in choices])
    observed = [evaluated[codes == position] for position in range(len(choices))]
    states = [groups.states.index(choice.pair[0]) for choice in choices]
    return observed, [evaluated[groups.is_control & (groups.state_codes == state)] for state in states]


def _read(adata: ad.AnnData, rows: np.ndarray) -> Any:
    """Return rows of cells ``(n_rows, n_genes)``, sparse or dense; a file is read at these rows only."""
    values = adata.X[np.sort(rows)]
    return values.tocsr() if sp.issparse(values) else np.asarray(values)


def _sample(matrix: Any) -> np.ndarray:
    """Return at most 150 of the cells, dense; the same ones every time."""
    n = matrix.shape[0]
    rows = np.sort(np.random.default_rng(0).permutation(n)[:MAX_CELLS])
    return matrix[rows].toarray() if sp.issparse(matrix) else matrix[rows]


def _embed(shown: dict[str, np.ndarray], embedding: Embedding) -> pd.DataFrame:
    """Return the kind of each cell and its position in an embedding of all of them."""
    import anndata as ad
    import scanpy as sc

    adata = ad.AnnData(np.concatenate(list(shown.values())).astype(np.float32))
    limit = min(adata.shape) - 1
    n = max(1, min(2 if embedding == "pca" else _UMAP_COMPONENTS, limit))
    sc.pp.pca(adata, n_comps=n, svd_solver="randomized", random_state=0)
    if embedding == "umap":
        sc.pp.neighbors(adata, random_state=0)
        sc.tl.umap(adata, random_state=0)
    points = adata.obsm[f"X_{embedding}"]
    points = points if points.shape[1] > 1 else np.hstack([points, np.zeros_like(points)])
    kinds = np.repeat(list(shown), [len(matrix) for matrix in shown.values()])
    return pd.DataFrame({"kind": kinds, "x": points[:, 0], "y": points[:, 1]})


def _gene_means(names: pd.Index, matrices: dict[str, Any]) -> pd.DataFrame:
    """Return the means of each gene, the largest observed log fold changes first."""
    means = {kind: np.asarray(matrix.mean(axis=0, dtype=np.float64)).ravel() for kind, matrix in matrices.items()}
    genes = pd.DataFrame({"gene": names, **means})
    order = np.argsort(-log_fold_change(genes, "observed").abs().to_numpy(), kind="stable")
    return genes.iloc[order].reset_index(drop=True)


def _fewer_genes(genes: pd.DataFrame) -> pd.DataFrame:
    """Return at most 600 genes: the half with the largest observed changes, and every k-th of the rest."""
    if len(genes) <= MAX_GENES:
        return genes
    first, rest = genes[: MAX_GENES // 2], genes[MAX_GENES // 2 :]
    return pd.concat([first, rest[:: -(-len(rest) // (MAX_GENES // 2))]], ignore_index=True)
