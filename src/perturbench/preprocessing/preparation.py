"""Normalisation and gene selection (appendix D.3 of the paper)."""

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
from perturbench.preprocessing.normalisation import count_blocks, log_normalise
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
    """Normalise raw counts and select the genes that models train on.

    Genes that are expressed in fewer than ``min_cells`` cells are dropped. The counts of the others are normalised to
    ``target_sum`` per cell and log-transformed. Three kinds of genes are selected: highly variable genes
    (``seurat_v3`` on counts, with states as batches), the most differentially expressed genes of each perturbation and
    state, and genes that are perturbed.

    Counts are read in blocks of cells, at most three times, and only the selected genes are kept in memory for all
    cells.

    Parameters
    ----------
    adata
        Raw counts, ``(n_cells, n_genes)``, in memory or backed by a file.
    keys
        Names of the columns of ``obs`` with the perturbation and the covariates.
    settings
        How to normalise the counts and which genes to select; the defaults of
        :class:`PreprocessingSettings` if not given.
    fit_rows
        Cells that genes are selected on, as positions or mask; by default, all cells.
    **changes
        Fields of :class:`PreprocessingSettings` that differ from ``settings``:
        ``prepare(adata, keys, n_top_genes=100)``.

    Returns
    -------
    The cells with the selected genes. ``X`` is log-normalised CSR float32, ``layers["counts"]`` holds the raw counts,
    and ``var["highly_variable"]``, ``var["differentially_expressed"]`` and ``var["perturbed"]`` say why a gene was
    selected.

    Raises
    ------
    PerturbenchError
        If a setting is unknown or out of range, no gene is selected, or a cell has no counts.
    """
    settings = PreprocessingSettings.override(settings, changes)
    groups = Groups.from_obs(adata.obs, keys)
    fit = np.zeros(adata.n_obs, dtype=bool)
    fit[slice(None) if fit_rows is None else fit_rows] = True
    batches = _state_batches(groups, fit)
    n_cells_with_gene, sums = _count(adata.X, batches)
    expressed = n_cells_with_gene >= settings.min_cells
    if not expressed.any():
        raise PerturbenchError(
            f"no gene is expressed in at least min_cells={settings.min_cells} of {fit.sum()} cells; lower "
            "preprocessing.min_cells."
        )
    n_expressed = int(expressed.sum())
    # Finding genes is the slow step, and it changes nothing if all genes are kept anyway.
    keep_all = settings.n_top_genes >= n_expressed
    variable = _highly_variable(sums, expressed, batches) if settings.n_top_genes and not keep_all else None
    differing = DifferentiallyExpressed(groups, fit, n_expressed) if settings.n_de_genes and not keep_all else None
    _add_blocks(variable, differing, adata.X, expressed, settings.target_sum)
    reasons = {
        "highly_variable": variable.select(settings.n_top_genes) if variable else np.full(n_expressed, keep_all),
        "perturbed": adata.var_names[expressed].isin(_single_perturbations(groups, fit))
        & settings.keep_perturbed_genes,
        "differentially_expressed": differing.select(settings.n_de_genes)
        if differing
        else np.zeros(n_expressed, dtype=bool),
    }
    selected = np.logical_or.reduce(list(reasons.values()))
    if not selected.any():
        raise PerturbenchError(
            f"no gene is selected with n_top_genes={settings.n_top_genes}, n_de_genes={settings.n_de_genes}, "
            f"keep_perturbed_genes={settings.keep_perturbed_genes}; raise preprocessing.n_top_genes."
        )
    numbers = ", ".join(f"{mask.sum()} {name.replace('_', ' ')}" for name, mask in reasons.items())
    logger.info("selected %d of %d genes (%s)", selected.sum(), adata.n_vars, numbers)
    prepared = _annotation(adata, np.flatnonzero(expressed)[selected])
    prepared.var = prepared.var.assign(**{name: mask[selected] for name, mask in reasons.items()})
    prepared.layers["counts"], prepared.X = _matrices(adata, expressed, selected, settings.target_sum)
    return prepared


def fit_rows_of(split: np.ndarray, fit_on: Literal["train", "all"]) -> np.ndarray | None:
    """Return the rows of the cells that genes are selected on; ``None`` means all cells.

    Parameters
    ----------
    split
        Label of each cell, ``(n_cells,)``.
    fit_on
        ``"all"``, as in the paper, or ``"train"``, which selects genes on training cells only.

    Raises
    ------
    PerturbenchError
        If ``fit_on`` is another value.
    """
    require_choice("preprocessing.fit_on", fit_on, ("train", "all"))
    return None if fit_on == "all" else np.flatnonzero(split == "train")


def _state_batches(groups: Groups, fit: np.ndarray) -> np.ndarray:
    """Return the position of each cell's state among the states in ``fit``, ``(n_cells,)``; -1 for other cells."""
    codes = np.full(len(fit), -1)
    codes[fit] = np.unique(groups.state_codes[fit], return_inverse=True)[1]
    return codes


def _single_perturbations(groups: Groups, fit: np.ndarray) -> set[str]:
    conditions = (groups.conditions[code] for code in np.unique(groups.condition_codes[fit]))
    return {single for condition in conditions for single in groups.keys.singles(condition)}


def _count(x: Any, batches: np.ndarray) -> tuple[np.ndarray, GroupSums]:
    """Return the number of cells that express each gene, ``(n_genes,)``, and the sums of counts per batch.

    Cells of batch -1 are left out.
    """
    n_cells_with_gene = np.zeros(x.shape[1], dtype=np.int64)
    sums = GroupSums(batches.max(initial=-1) + 1, x.shape[1], squares=True)
    for rows, counts in count_blocks(x):
        in_batch = np.repeat(batches[rows] >= 0, np.diff(counts.indptr))
        # A file may store zeros explicitly; they do not count as expression.
        n_cells_with_gene += np.bincount(counts.indices[in_batch & (counts.data > 0)], minlength=x.shape[1])
        sums.add(counts, batches[rows])
    return n_cells_with_gene, sums


def _highly_variable(sums: GroupSums, genes: np.ndarray, batches: np.ndarray) -> HighlyVariable:
    try:
        return HighlyVariable(sums, genes, batches)
    except ValueError as error:
        raise PerturbenchError(
            f"highly variable genes cannot be found among {genes.sum()} genes of {sums.counts.sum()} cells ({error}); "
            "raise preprocessing.min_cells, or set preprocessing.n_top_genes to the number of genes to keep them all."
        ) from error


def _add_blocks(
    variable: HighlyVariable | None,
    differing: DifferentiallyExpressed | None,
    x: Any,
    genes: np.ndarray,
    target_sum: float,
) -> None:
    """Read the counts once and add each block to both selections."""
    if variable is None and differing is None:
        return
    for rows, counts in count_blocks(x, genes):
        if variable is not None:
            variable.add(counts, rows)
        if differing is not None:
            differing.add(log_normalise(counts, target_sum), rows)


def _matrices(
    adata: ad.AnnData, expressed: np.ndarray, selected: np.ndarray, target_sum: float
) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Return counts and log-normalised expression of the selected genes.

    Cells are normalised by their total count over all expressed genes, not only over the selected ones.
    """
    columns = np.flatnonzero(selected)
    totals, rest = np.zeros((2, adata.n_obs), dtype=np.float32)

    def blocks() -> Iterator[sp.csr_matrix]:
        for rows, counts in count_blocks(adata.X, expressed):
            block = counts if selected.all() else counts[:, columns]
            totals[rows] = counts.sum(axis=1).A1
            rest[rows] = totals[rows] - block.sum(axis=1).A1
            yield block

    counts = stack_rows(blocks(), len(columns))
    if (totals == 0).any():
        names = adata.obs_names[totals == 0]
        raise PerturbenchError(
            f"{len(names)} of {adata.n_obs} cells have no counts in genes that at least min_cells cells express: "
            f"{listing(names)}; drop these cells from the source."
        )
    return counts, log_normalise(counts, target_sum, rest)


def _annotation(adata: ad.AnnData, genes: np.ndarray) -> ad.AnnData:
    """Return a copy of ``adata`` with the given genes and without ``X``."""
    parts = ("obs", "var", "uns", "obsm", "varm", "obsp", "varp", "layers")
    rest = ad.AnnData(**{part: getattr(adata, part) for part in parts})[:, genes].copy()
    rest.uns.pop("log1p", None)
    return rest
