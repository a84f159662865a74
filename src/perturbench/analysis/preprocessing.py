"""Normalisation and feature selection (appendix D.3)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import numpy as np
import scanpy as sc
import scipy.sparse as sp

from perturbench.data.groups import Groups, Keys, state_name
from perturbench.errors import PerturbenchError, listing, require_choice

if TYPE_CHECKING:
    import anndata as ad

logger = logging.getLogger(__name__)


def prepare(
    adata: ad.AnnData,
    keys: Keys,
    *,
    fit_rows: np.ndarray | None = None,
    min_cells: int = 10,
    target_sum: float = 10_000.0,
    n_top_genes: int = 4000,
    n_de_genes: int = 25,
    keep_perturbed_genes: bool = True,
) -> ad.AnnData:
    """Turn raw counts into what models train on.

    Genes seen in fewer than ``min_cells`` cells are dropped. The others are normalised per cell to ``target_sum``
    counts and log-transformed; kept are the highly variable genes (``seurat_v3`` on counts, states as batches), the
    most differentially expressed genes of each perturbation and state, and the perturbed genes that are measured.

    Parameters
    ----------
    adata
        Raw counts, ``(n_cells, n_genes)`` CSR.
    keys
        The columns of its ``obs``.
    fit_rows
        Cells that genes are selected on; all if not given.
    min_cells
        Cells that must have a gene, among ``fit_rows``.
    target_sum
        Counts per cell after normalisation.
    n_top_genes
        Highly variable genes to keep.
    n_de_genes
        Differentially expressed genes to keep per perturbation and state, by |score| of scanpy's t-test.
    keep_perturbed_genes
        Whether genes that are perturbed are kept.

    Returns
    -------
    ``X``: log-normalised CSR float32; ``layers["counts"]``: raw counts; ``var["highly_variable"]``,
    ``var["differentially_expressed"]``, ``var["perturbed"]``: why a gene was kept.

    Raises
    ------
    PerturbenchError
        If no gene is left, or a cell has no counts.
    """
    fit = adata if fit_rows is None else adata[fit_rows]
    seen = np.asarray((fit.X > 0).sum(axis=0)).ravel() >= min_cells
    if not seen.any():
        raise PerturbenchError(
            f"no gene is seen in at least min_cells={min_cells} of {fit.n_obs} cells; lower preprocessing.min_cells."
        )
    prepared = adata[:, seen].copy()
    depth = np.asarray(prepared.X.sum(axis=1)).ravel()
    if (depth == 0).any():
        names = prepared.obs_names[depth == 0]
        raise PerturbenchError(
            f"{len(names)} of {prepared.n_obs} cells have no counts in the kept genes: {listing(names)}; "
            "drop them from the source."
        )
    prepared.layers["counts"] = prepared.X.copy()
    sc.pp.normalize_total(prepared, target_sum=target_sum)
    sc.pp.log1p(prepared)
    prepared.X = sp.csr_matrix(prepared.X, dtype=np.float32)

    fit = prepared if fit_rows is None else prepared[fit_rows]
    prepared.var["highly_variable"] = _highly_variable(fit, keys, n_top_genes)
    prepared.var["perturbed"] = _perturbed(fit, keys) if keep_perturbed_genes else False
    everything = bool(prepared.var["highly_variable"].all())
    # Finding the differentially expressed genes is the slow step, and changes nothing once every gene is kept.
    prepared.var["differentially_expressed"] = (
        False if everything or not n_de_genes else _differentially_expressed(fit, keys, n_de_genes)
    )
    why = ["highly_variable", "differentially_expressed", "perturbed"]
    kept = prepared.var[why].any(axis=1).to_numpy()
    if not kept.any():
        raise PerturbenchError(
            f"no gene is kept with n_top_genes={n_top_genes}, n_de_genes={n_de_genes}, "
            f"keep_perturbed_genes={keep_perturbed_genes}; raise preprocessing.n_top_genes."
        )
    logger.info(
        "kept %d of %d genes (%s)",
        kept.sum(),
        adata.n_vars,
        ", ".join(f"{int(prepared.var[reason].sum())} {reason.replace('_', ' ')}" for reason in why),
    )
    prepared.uns.pop("log1p", None)
    return prepared if kept.all() else prepared[:, kept].copy()


def fit_rows_of(split: np.ndarray, fit_on: Literal["train", "all"]) -> np.ndarray | None:
    """Return the cells that genes are selected on: the training cells, or ``None`` for all.

    Parameters
    ----------
    split
        Label of each cell, ``(n_cells,)``.
    fit_on
        ``all`` as in the paper, or ``train``, which keeps held-out cells out of the selection.

    Raises
    ------
    PerturbenchError
        If ``fit_on`` is neither.
    """
    require_choice("preprocessing.fit_on", fit_on, ("train", "all"))
    return None if fit_on == "all" else np.flatnonzero(split == "train")


def _highly_variable(adata: ad.AnnData, keys: Keys, n_top_genes: int) -> np.ndarray:
    if n_top_genes >= adata.n_vars or n_top_genes == 0:
        return np.full(adata.n_vars, n_top_genes > 0)
    groups = Groups.from_obs(adata.obs, keys)
    batches = np.array([state_name(state) for state in groups.states])[groups.state_codes]
    counts = sc.AnnData(adata.layers["counts"], obs=adata.obs[[]].assign(batch=batches), var=adata.var[[]])
    counts.obs["batch"] = counts.obs["batch"].astype("category")
    try:
        sc.pp.highly_variable_genes(counts, flavor="seurat_v3", n_top_genes=n_top_genes, batch_key="batch")
    except ValueError as error:
        raise PerturbenchError(
            f"highly variable genes cannot be found among {adata.n_vars} genes of {adata.n_obs} cells ({error}); "
            "raise preprocessing.min_cells, or set preprocessing.n_top_genes to the number of genes to keep all."
        ) from error
    return counts.var["highly_variable"].to_numpy()


def _differentially_expressed(adata: ad.AnnData, keys: Keys, n_genes: int) -> np.ndarray:
    groups = Groups.from_obs(adata.obs, keys)
    found = np.zeros(adata.n_vars, dtype=bool)
    for code in range(len(groups.states)):
        rows = np.flatnonzero(groups.state_codes == code)
        conditions, counts = np.unique(groups.condition_codes[rows], return_counts=True)
        names = [groups.conditions[c] for c, n in zip(conditions, counts, strict=True) if n > 1]
        tested = [name for name in names if name != keys.control]
        if keys.control not in names or not tested:
            continue
        state = adata[rows]
        cells = sc.AnnData(state.X, obs=state.obs[[]], var=state.var[[]])
        cells.obs["condition"] = np.array(groups.conditions, dtype=object)[groups.condition_codes[rows]]
        cells.obs["condition"] = cells.obs["condition"].astype("category")
        cells.uns["log1p"] = {"base": None}
        sc.tl.rank_genes_groups(
            cells, "condition", groups=tested, reference=keys.control, rankby_abs=True, n_genes=n_genes
        )
        ranked = cells.uns["rank_genes_groups"]["names"]
        found |= cells.var_names.isin({gene for name in tested for gene in ranked[name]})
    return found


def _perturbed(adata: ad.AnnData, keys: Keys) -> np.ndarray:
    conditions = Groups.from_obs(adata.obs, keys).conditions
    return adata.var_names.isin({single for name in conditions for single in keys.singles(name)})
