"""Layouts of files: which columns and layers a published file has, and the steps from there to the standard form."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml

from perturbench.errors import PerturbenchError, listing, require_choice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perturbench.data.curation.reading import Source

logger = logging.getLogger(__name__)
_RECIPES = files("perturbench.data.curation") / "recipes"


@dataclass(frozen=True)
class Layout:
    """Columns and layers of a file, and the steps from there to the standard form.

    Attributes
    ----------
    name
        Name for ``data.layout``.
    columns
        Columns of ``obs`` that a file of this layout has.
    perturbation_key, control
        Column with the perturbation of each cell after the steps, and its value for unperturbed cells.
    counts_layer
        Layer with raw counts: ``raw`` for the matrix of ``.raw``, ``None`` for ``X``.
    rename_perturbations
        New names of perturbations.
    steps
        Steps of :mod:`perturbench.data.curation.steps`, each ``{name: arguments}``.
    """

    name: str
    columns: tuple[str, ...] = ()
    perturbation_key: str = "condition"
    control: str = "control"
    counts_layer: str | None = None
    rename_perturbations: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[Mapping[str, Mapping[str, Any]], ...] = ()

    def lacks(self, source: Source) -> list[str]:
        """Return the columns and layers of this layout that a source does not have."""
        missing = [f"column '{name}'" for name in self.columns if name not in source.columns]
        return missing + ([] if source.has_layer(self.counts_layer) else [f"layer '{self.counts_layer or 'X'}'"])


def known_layouts(dataset: str) -> list[Layout]:
    """Return the layouts in which a data set is published; an empty list if the data set is not known."""
    recipe = _RECIPES / f"{dataset}.yml"
    if not recipe.is_file():
        return []
    entries = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    return [Layout(name, **{"columns": tuple(entry.pop("columns")), **entry}) for name, entry in entries.items()]


def choose_layout(source: Source, layouts: Sequence[Layout], name: str | None = None) -> Layout:
    """Return the layout with a name, or the first layout that the source has.

    Raises
    ------
    PerturbenchError
        If there is no layout with that name, or the source has none of the layouts; the message lists what each lacks.
    """
    if name is not None:
        require_choice("data.layout", name, [layout.name for layout in layouts])
        return next(layout for layout in layouts if layout.name == name)
    if len(layouts) == 1:
        return layouts[0]
    for layout in layouts:
        if not layout.lacks(source):
            logger.info("reading '%s' with the layout '%s'", source.path, layout.name)
            return layout
    reasons = "; ".join(f"'{layout.name}' needs {listing(layout.lacks(source))}" for layout in layouts)
    raise PerturbenchError(
        f"'{source.path}' has none of the known layouts: {reasons}. Its columns of obs are: "
        f"{listing(sorted(source.columns), 30)}. Name the columns to use in the task's data section."
    )
