"""Curate a file of any known layout into cells in the standard form."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from perturbench.data.curation.layouts import choose_layout
from perturbench.data.curation.reading import Source
from perturbench.data.curation.standard import standardise
from perturbench.data.curation.steps import run_steps

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import anndata as ad

    from perturbench.data.curation.layouts import Layout
    from perturbench.data.groups import Keys


def curate_file(
    path: str | Path, layouts: Sequence[Layout], keys: Keys, *, layout: str | None = None, min_controls: int = 1
) -> ad.AnnData:
    """Read an h5ad file, or the h5ad files of a folder, and bring them into the standard form.

    The counts are read after the layout's steps, and only for the cells and genes that the steps keep.

    Parameters
    ----------
    path
        File or folder.
    layouts
        Layouts that the file may have; the first one that fits is used.
    keys
        The columns after curation: perturbations in ``condition``, controls ``control``.
    layout
        Name of the layout to use instead of the first one that fits.
    min_controls
        Smallest number of control cells that a state may have.

    Raises
    ------
    PerturbenchError
        If the file cannot be read, has none of the layouts, a step fails, or the result is not in the standard form.

    Examples
    --------
    >>> from perturbench.data.curation import curate_file, known_layouts
    >>> from perturbench.data.groups import Keys
    >>> adata = curate_file("NormanWeissman2019_filtered.h5ad", known_layouts("norman19"), Keys())  # doctest: +SKIP
    """
    with Source(path) as source:
        selected = choose_layout(source, layouts, layout)
        source.require_layer(selected.counts_layer)
        annotation = run_steps(source.annotation(selected.counts_layer), selected.steps)
        adata = source.cells(annotation, selected.counts_layer)
    source_keys = replace(keys, perturbation=selected.perturbation_key, control=selected.control)
    return standardise(adata, source_keys, selected.rename_perturbations, min_controls)
