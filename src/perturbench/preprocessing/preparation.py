"""Normalisation and feature selection (appendix D.3)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

import anndata as ad
import numpy as np

from perturbench.data.group_sums import GroupSums
from perturbench.data.groups import Groups, Keys
from perturbench.data.sparse import stack_rows
from perturbench.errors import PerturbenchError, listing, require_choice
from perturbench.preprocessing.gene_selection import DifferentiallyExpressed, HighlyVariable
from perturbench.preprocessing.normalisation import count_blocks, depths_of, log_normalised
from perturbench.preprocessing.settings import PreprocessingSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    import scipy.sparse as sp

logger = logging.getLogger(__name__)


def prepare(
    adata: ad.AnnData,
    keys: Keys,
    settings: PreprocessingSettings | None = None,
    *,
    fit_rows: np.ndarray | None = None,
    **changes: Any,
) -> ad.AnnData:
    """Turn raw counts into what models train on.

    Genes seen in fewer than ``min_cells`` cells are dropped. The others are normalised per cell to ``target_sum``
    counts and log-transformed; kept are the highly variable genes (``seurat_v3`` on counts, states as batches), the
    most differentially expressed genes of each perturbation and state, and the perturbed genes that are measured.

    Counts are read in blocks of cells, three times at most, and only kept genes are held for all cells.

    Parameters
    ----------
    adata
        Raw counts, ``(n_cells, n_genes)``, in memory or backed.
    keys
        The columns of its ``obs``.
    settings
        How to normalise, and which genes to keep; the defaults of :class:`PreprocessingSettings` if not given.
    fit_rows
        Cells that genes are selected on; all if not given.
    **changes
        Fields of :class:`PreprocessingSettings` that differ from ``settings``:
        ``prepare(adata, keys, n_top_genes=100)``.

    Returns
    -------
    ``X``: log-normalised CSR float32; ``layers["counts"]``: raw counts; ``var["highly_variable"]``,
    ``var["differentially_expressed"]``, ``var["perturbed"]``: why a gene was kept.

    Raises
    ------
    PerturbenchError
        If a setting is unknown or out of range, no gene is left, or a cell has no counts.
    """
    settings = PreprocessingSettings.override(settings, changes)
    groups = Groups.from_obs(adata.obs, keys)
    fit = np.zeros(adata.n_obs, dtype=bool)
    fit[slice(None) if fit_rows is None else fit_rows] = True
    batches = _states_of(groups, fit)
    n_cells_with, sums = _count(adata.X, batches)
    seen = n_cells_with >= settings.min_cells
    if not seen.any():
        raise PerturbenchError(
            f"no gene is seen in at least min_cells={settings.min_cells} of {fit.sum()} cells; "
            "lower preprocessing.min_cells."
        )
    n_seen = int(seen.sum())
    # Finding genes is the slow step, and changes nothing once every gene is kept.
    everything = settings.n_top_genes >= n_seen
    variable = _highly_variable(sums, seen, batches) if settings.n_top_genes and not everything else None
    differing = DifferentiallyExpressed(groups, fit, n_seen) if settings.n_de_genes and not everything else None
    _feed(variable, differing, adata.X, seen, settings.target_sum)
    why = {
        "highly_variable": variable.chosen(settings.n_top_genes) if variable else np.full(n_seen, everything),
        "perturbed": adata.var_names[seen].isin(_singles(groups, fit)) & settings.keep_perturbed_genes,
        "differentially_expressed": (
            differing.chosen(settings.n_de_genes) if differing else np.zeros(n_seen, dtype=bool)
        ),
    }
    kept = np.logical_or.reduce(list(why.values()))
    if not kept.any():
        raise PerturbenchError(
            f"no gene is kept with n_top_genes={settings.n_top_genes}, n_de_genes={settings.n_de_genes}, "
            f"keep_perturbed_genes={settings.keep_perturbed_genes}; raise preprocessing.n_top_genes."
        )
    reasons = ", ".join(f"{reason.sum()} {name.replace('_', ' ')}" for name, reason in why.items())
    logger.info("kept %d of %d genes (%s)", kept.sum(), adata.n_vars, reasons)
    prepared = _annotation(adata, np.flatnonzero(seen)[kept])
    prepared.var = prepared.var.assign(**{name: reason[kept] for name, reason in why.items()})
    prepared.layers["counts"], prepared.X = _kept(adata, seen, kept, settings.target_sum)
    return prepared


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


def _states_of(groups: Groups, fit: np.ndarray) -> np.ndarray:
    """Return the state of each cell, counted among those of the fitted cells, ``(n_cells,)``; -1 for other cells."""
    codes = np.full(len(fit), -1)
    codes[fit] = np.unique(groups.state_codes[fit], return_inverse=True)[1]
    return codes


def _singles(groups: Groups, fit: np.ndarray) -> set[str]:
    conditions = (groups.conditions[code] for code in np.unique(groups.condition_codes[fit]))
    return {single for condition in conditions for single in groups.keys.singles(condition)}


def _count(x: Any, batches: np.ndarray) -> tuple[np.ndarray, GroupSums]:
    """Return in how many cells of any batch each gene is seen, ``(n_genes,)``, and the sums of counts per batch."""
    n_cells_with = np.zeros(x.shape[1], dtype=np.int64)
    sums = GroupSums(batches.max(initial=-1) + 1, x.shape[1], squares=True)
    for rows, counts in count_blocks(x):
        inside = np.repeat(batches[rows] >= 0, np.diff(counts.indptr))
        n_cells_with += np.bincount(counts.indices[inside & (counts.data > 0)], minlength=x.shape[1])
        sums.add(counts, batches[rows])
    return n_cells_with, sums


def _highly_variable(sums: GroupSums, seen: np.ndarray, batches: np.ndarray) -> HighlyVariable:
    try:
        return HighlyVariable(sums, seen, batches)
    except ValueError as error:
        raise PerturbenchError(
            f"highly variable genes cannot be found among {seen.sum()} genes of {sums.counts.sum()} cells ({error}); "
            "raise preprocessing.min_cells, or set preprocessing.n_top_genes to the number of genes to keep all."
        ) from error


def _feed(
    variable: HighlyVariable | None,
    differing: DifferentiallyExpressed | None,
    x: Any,
    seen: np.ndarray,
    target_sum: float,
) -> None:
    """Read the counts once for both selections."""
    if variable is None and differing is None:
        return
    for rows, counts in count_blocks(x, seen):
        if variable is not None:
            variable.add(counts, rows)
        if differing is not None:
            differing.add(log_normalised(counts, depths_of(counts), target_sum), rows)


def _kept(
    adata: ad.AnnData, seen: np.ndarray, kept: np.ndarray, target_sum: float
) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Return counts and log-normalised expression of the kept ones of the seen genes."""
    depths = np.zeros(adata.n_obs, dtype=np.float32)

    def blocks() -> Iterator[sp.csr_matrix]:
        for rows, counts in count_blocks(adata.X, seen):
            depths[rows] = depths_of(counts)
            yield counts if kept.all() else counts[:, np.flatnonzero(kept)]

    counts = stack_rows(blocks(), int(kept.sum()))
    if (depths == 0).any():
        names = adata.obs_names[depths == 0]
        raise PerturbenchError(
            f"{len(names)} of {adata.n_obs} cells have no counts in the kept genes: {listing(names)}; "
            "drop them from the source."
        )
    return counts, log_normalised(counts, depths, target_sum)


def _annotation(adata: ad.AnnData, genes: np.ndarray) -> ad.AnnData:
    """Return a copy of all but ``X`` for some genes."""
    parts = ("obs", "var", "uns", "obsm", "varm", "obsp", "varp", "layers")
    rest = ad.AnnData(**{part: getattr(adata, part) for part in parts})[:, genes].copy()
    rest.uns.pop("log1p", None)
    return rest
