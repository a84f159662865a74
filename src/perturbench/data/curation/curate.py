"""From a file of any known layout to curated cells."""

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

    Only the counts of the cells and genes that the layout's steps keep are read.

    Parameters
    ----------
    path
        File or folder.
    layouts
        What the file may look like; the first that fits is taken.
    keys
        The columns after curation: perturbations in ``condition``, controls ``control``.
    layout
        The name of one of them, to take no other.
    min_controls
        Control cells that every state has at least.

    Raises
    ------
    PerturbenchError
        If the file cannot be read, has no known layout, a step refuses it, or the result is not standard.

    Examples
    --------
    >>> from perturbench.data.curation import curate_file, known_layouts
    >>> from perturbench.data.groups import Keys
    >>> adata = curate_file("NormanWeissman2019_filtered.h5ad", known_layouts("norman19"), Keys())  # doctest: +SKIP
    """
    with Source(path) as source:
        chosen = choose_layout(source, layouts, layout)
        source.require_layer(chosen.counts_layer)
        annotation = run_steps(source.annotation(chosen.counts_layer), chosen.steps)
        adata = source.cells(annotation, chosen.counts_layer)
    source_keys = replace(keys, perturbation=chosen.perturbation_key, control=chosen.control)
    return standardise(adata, source_keys, chosen.rename, min_controls)
