"""Settings of the preprocessing."""

from __future__ import annotations

from pydantic import Field

from perturbench.parameters import Parameters


class PreprocessingSettings(Parameters):
    """How counts are normalised, and which genes are kept.

    Attributes
    ----------
    min_cells
        Smallest number of cells that must express a gene.
    target_sum
        Total count of each cell after normalisation.
    n_top_genes
        Number of highly variable genes to select.
    n_de_genes
        Number of differentially expressed genes to select per perturbation and state, by the absolute score of
        scanpy's t-test.
    keep_perturbed_genes
        Whether to select genes that are perturbed.
    """

    min_cells: int = Field(default=10, ge=0)
    target_sum: float = Field(default=10_000.0, gt=0)
    n_top_genes: int = Field(default=4000, ge=0)
    n_de_genes: int = Field(default=25, ge=0)
    keep_perturbed_genes: bool = True
