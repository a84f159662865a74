"""The steps of curation recipes.

A step takes the annotation of cells and genes (``obs`` and ``var``) and returns it changed; it never sees the counts.
Dropping a row drops that cell or gene. The counts are read once, after all steps, for the remaining cells and genes.
"""

from __future__ import annotations

import inspect
import logging
import re
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from perturbench.errors import PerturbenchError, listing, require_choice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Annotation:
    """The annotation of the cells and genes of a source, without the counts.

    Attributes
    ----------
    obs, var
        Annotation of the cells and of the genes, with their names as index.
    """

    obs: pd.DataFrame
    var: pd.DataFrame

    def with_column(self, name: str, values: Any) -> Annotation:
        """Return the annotation with a column of ``obs`` added or replaced."""
        return replace(self, obs=self.obs.assign(**{name: values}))

    def with_cells(self, keep: np.ndarray | pd.Series, why: str) -> Annotation:
        """Return the annotation of the cells in a mask, and log how many are dropped.

        Raises
        ------
        PerturbenchError
            If no row is left.
        """
        return replace(self, obs=_filtered(self.obs, keep, "cell", why))

    def with_genes(self, keep: np.ndarray | pd.Series, why: str) -> Annotation:
        """Return the annotation of the genes in a mask, and log how many are dropped.

        Raises
        ------
        PerturbenchError
            If no row is left.
        """
        return replace(self, var=_filtered(self.var, keep, "gene", why))


def _filtered(table: pd.DataFrame, keep: np.ndarray | pd.Series, kind: str, why: str) -> pd.DataFrame:
    keep = np.asarray(keep, dtype=bool)
    if not keep.any():
        raise PerturbenchError(f"curation leaves no {kind}: all {len(keep)} {why}.")
    if dropped := int((~keep).sum()):
        logger.info("%d of %d %ss dropped: they %s", dropped, len(keep), kind, why)
    return table[keep]


STEPS: dict[str, Callable[..., Annotation]] = {}


def find_step(name: str, arguments: Mapping[str, Any]) -> Callable[..., Annotation]:
    """Return a step by its name, or a user's function by its path ``module.function``.

    Raises
    ------
    PerturbenchError
        If the step does not exist, or does not accept these arguments.
    """
    if "." in name:
        module, _, function = name.rpartition(".")
        try:
            step = getattr(import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise PerturbenchError(f"curation step '{name}' cannot be imported: {error}.") from error
    else:
        require_choice("curation step", name, STEPS)
        step = STEPS[name]
    try:
        inspect.signature(step).bind(None, **arguments)
    except TypeError as error:
        takes = listing(list(inspect.signature(step).parameters)[1:])
        raise PerturbenchError(f"curation step '{name}': {error}; it takes: {takes}.") from error
    return step


def run_steps(annotation: Annotation, steps: Sequence[Mapping[str, Mapping[str, Any]]]) -> Annotation:
    """Apply steps in order, each ``{name: arguments}``.

    Raises
    ------
    PerturbenchError
        If a step fails; the message names the step.
    """
    for step in steps:
        for name, arguments in step.items():
            function = find_step(name, arguments)
            try:
                annotation = function(annotation, **arguments)
            except PerturbenchError as error:
                raise PerturbenchError(f"curation step '{name}': {error}") from error
    return annotation


def _step(function: Callable[..., Annotation]) -> Callable[..., Annotation]:
    STEPS[function.__name__] = function
    return function


@_step
def rename_columns(annotation: Annotation, columns: Mapping[str, str]) -> Annotation:
    """Rename columns of ``obs``, old to new; raise if a column with the new name exists."""
    for old, new in columns.items():
        _column(annotation.obs, old)
        if new in annotation.obs:
            raise PerturbenchError(f"column '{old}' cannot become '{new}': obs has a column '{new}' already.")
    return replace(annotation, obs=annotation.obs.rename(columns=dict(columns)))


@_step
def set_columns(annotation: Annotation, values: Mapping[str, str]) -> Annotation:
    """Set columns of ``obs`` to one value each."""
    for name, value in values.items():
        annotation = annotation.with_column(name, pd.Categorical([value] * len(annotation.obs)))
    return annotation


@_step
def fill_missing(annotation: Annotation, column: str, value: str) -> Annotation:
    """Replace the missing values of a column by a value."""
    values = _column(annotation.obs, column).astype(object)
    return annotation.with_column(column, values.where(values.notna(), value))


@_step
def map_values(annotation: Annotation, column: str, values: Mapping[str, str]) -> Annotation:
    """Replace values of a column, old by new, and keep all others; raise if no old value occurs."""
    found = _names(annotation.obs, column)
    if absent := [name for name in values if name not in found]:
        if len(absent) == len(values):
            raise PerturbenchError(f"'{column}' has none of the values {listing(values)}; it has: {listing(found)}.")
        logger.warning("'%s' has no value %s", column, listing(absent))
    return annotation.with_column(column, _recoded(annotation.obs, column, lambda name: values.get(name, name)))


@_step
def lower_case(annotation: Annotation, column: str) -> Annotation:
    """Convert the values of a column to lower case."""
    return annotation.with_column(column, _recoded(annotation.obs, column, str.lower))


@_step
def replace_delimiter(annotation: Annotation, column: str, old: str, new: str = "+") -> Annotation:
    """Change the delimiter of combinations; raise if a name contains the new delimiter, which would split the name."""
    if ambiguous := [name for name in _names(annotation.obs, column) if new in name]:
        raise PerturbenchError(
            f"{len(ambiguous)} values of '{column}' contain the new delimiter '{new}': {listing(ambiguous)}."
        )
    return annotation.with_column(column, _recoded(annotation.obs, column, lambda name: name.replace(old, new)))


@_step
def extract(annotation: Annotation, column: str, source: str, pattern: str) -> Annotation:
    """Fill a column with the first group of a regular expression, matched to the values of another column."""
    names = _names(annotation.obs, source)
    found = {name: match.group(1) for name in names if (match := re.search(pattern, name))}
    if unmatched := [name for name in names if name not in found]:
        raise PerturbenchError(f"'{pattern}' does not match these values of '{source}': {listing(unmatched)}.")
    return annotation.with_column(column, _recoded(annotation.obs, source, found.__getitem__))


@_step
def drop_missing(annotation: Annotation, column: str) -> Annotation:
    """Drop cells without a value in a column."""
    return annotation.with_cells(_column(annotation.obs, column).notna(), f"have no value in '{column}'")


@_step
def keep_values(annotation: Annotation, column: str, values: Sequence[str]) -> Annotation:
    """Keep the cells with one of these values in a column; raise if one of the values does not occur."""
    if absent := sorted(set(values) - set(found := _names(annotation.obs, column))):
        raise PerturbenchError(f"'{column}' has no value {listing(absent)}; it has: {listing(found)}.")
    keep = _column(annotation.obs, column).isin(values)
    return annotation.with_cells(keep, f"are none of {listing(values)} in '{column}'")


@_step
def drop_values(annotation: Annotation, column: str, values: Sequence[str]) -> Annotation:
    """Drop the cells with one of these values in a column."""
    drop = _column(annotation.obs, column).isin(values)
    return annotation.with_cells(~drop, f"are {listing(values)} in '{column}'")


@_step
def drop_combinations(annotation: Annotation, column: str, delimiter: str) -> Annotation:
    """Drop the cells with a combination of perturbations."""
    combined = [name for name in _names(annotation.obs, column) if delimiter in name]
    return annotation.with_cells(~_column(annotation.obs, column).isin(combined), f"have several values in '{column}'")


@_step
def keep_highest_dose(annotation: Annotation, dose: str, perturbation: str, control: str) -> Annotation:
    """Keep control cells, and perturbed cells with the highest dose of the data set."""
    doses = pd.to_numeric(_column(annotation.obs, dose), errors="coerce")
    is_control = _column(annotation.obs, perturbation) == control
    return annotation.with_cells(is_control | (doses == doses[~is_control].max()), f"have a lower '{dose}'")


@_step
def drop_small_groups(annotation: Annotation, columns: Sequence[str], min_cells: int) -> Annotation:
    """Drop groups with fewer cells than ``min_cells``; the cells of a group have the same values in these columns."""
    keys = [_column(annotation.obs, column) for column in columns]
    sizes = keys[0].groupby(keys, observed=True).transform("size")
    return annotation.with_cells(sizes >= min_cells, f"are in groups of under {min_cells} cells by {listing(columns)}")


@_step
def keep_genes(annotation: Annotation, column: str, prefix: str) -> Annotation:
    """Keep the genes whose value in a column of ``var`` starts with a prefix, for example ENSG for human genes."""
    keep = _column(annotation.var, column).astype(object).str.startswith(prefix).eq(True)
    return annotation.with_genes(keep, f"have no '{column}' that starts with {prefix}")


@_step
def drop_duplicate_genes(annotation: Annotation, column: str) -> Annotation:
    """Keep the first of the genes with the same value in a column of ``var``, for example the same Ensembl id."""
    return annotation.with_genes(
        ~_column(annotation.var, column).duplicated(), f"repeat the '{column}' of another gene"
    )


@_step
def name_genes(annotation: Annotation, column: str) -> Annotation:
    """Name genes by a column of ``var``; drop genes without a name, and genes that repeat a name."""
    names = _column(annotation.var, column).astype(object)
    annotation = annotation.with_genes(names.notna() & (names != ""), f"have no '{column}'")
    annotation = drop_duplicate_genes(annotation, column)
    names = _column(annotation.var, column).astype(str)
    return replace(annotation, var=annotation.var.set_axis(pd.Index(names, name=None), axis=0))


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    """Return a column, or the index if the index has that name."""
    if name in frame:
        return frame[name]
    if name == frame.index.name:
        return frame.index.to_series()
    raise PerturbenchError(f"there is no column '{name}'; columns are: {listing(frame.columns, 30)}.")


def _names(frame: pd.DataFrame, column: str) -> list[str]:
    """Return the distinct values of a column as text, without missing values."""
    return sorted(map(str, _column(frame, column).dropna().unique()))


def _recoded(frame: pd.DataFrame, column: str, recode: Callable[[str], str]) -> pd.Categorical:
    """Return a column with each distinct value recoded, missing values left missing."""
    values = _column(frame, column).astype("category").cat
    names = np.array([*(recode(str(name)) for name in values.categories), None], dtype=object)
    return pd.Categorical(names[values.codes.to_numpy()])
