"""Settings of the preprocessing."""

from __future__ import annotations

from pydantic import Field

from perturbench.parameters import Parameters


class PreprocessingSettings(Parameters):
    """How counts are normalised, and which genes are kept.

    Attributes
    ----------
    min_cells
        Genes with counts in fewer cells than this are dropped.
    target_sum
        Counts per cell after normalisation.
    n_top_genes
        Number of highly variable genes to keep.
    n_de_genes
        Number of differentially expressed genes to keep per perturbation and state, ranked by ``|score|`` of scanpy's
        t-test.
    keep_perturbed_genes
        Whether genes that are perturbed are kept.
    """

    min_cells: int = Field(10, ge=0)
    target_sum: float = Field(10_000.0, gt=0)
    n_top_genes: int = Field(4000, ge=0)
    n_de_genes: int = Field(25, ge=0)
    keep_perturbed_genes: bool = True
