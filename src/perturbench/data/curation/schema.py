"""The standard form of curated cells: plain checks, whose violations are reported all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from perturbench.data.groups import Keys, state_name
from perturbench.data.sparse import row_slices
from perturbench.errors import PerturbenchError, listing

if TYPE_CHECKING:
    from collections.abc import Iterator

    import anndata as ad

_BRACKETS = {"(": ")", "[": "]", "{": "}"}
#: Values of X that are checked at once; the checks take several times their memory.
_CHUNK = 2**24


def check_curated(adata: ad.AnnData, keys: Keys, min_controls: int = 1) -> None:
    """Raise unless cells are in the standard form.

    Parameters
    ----------
    adata
        Counts ``(n_cells, n_genes)`` as CSR; the columns of ``keys`` are categories of ``obs``.
    keys
        The columns after curation.
    min_controls
        Smallest number of control cells that a state may have.

    Raises
    ------
    PerturbenchError
        If the cells break a rule; the message lists every broken rule, the values that break it, and the fix.
    """
    columns = [keys.perturbation, *keys.covariates]
    if absent := [name for name in columns if name not in adata.obs]:
        raise PerturbenchError(
            f"columns {listing(absent)} are not in obs; columns are: {listing(adata.obs.columns, 30)}."
        )
    obs = adata.obs[columns]
    problems = [
        *_repeated_names(adata.obs_names, "cell", "obs"),
        *_repeated_names(adata.var_names, "gene", "var"),
        *_values_that_are_no_counts(adata.X.data),
        *_missing_values(obs),
        *_other_types(obs),
        *_unusable_conditions(obs[keys.perturbation], keys),
        *_missing_controls(obs, keys, min_controls),
    ]
    if problems:
        lead = "" if len(problems) == 1 else f"the cells break {len(problems)} rules:\n- "
        raise PerturbenchError(lead + "\n- ".join(problems))


def is_broken(name: str, keys: Keys) -> bool:
    """Return whether splitting a name at the delimiter leaves an empty part or separates a pair of brackets."""
    parts = str(name).split(keys.delimiter) if keys.delimiter else [name]
    return len(parts) > 1 and any(
        not part.strip() or any(part.count(left) != part.count(right) for left, right in _BRACKETS.items())
        for part in parts
    )


def _repeated_names(names: pd.Index, kind: str, table: str) -> Iterator[str]:
    if repeated := list(names[names.duplicated()].unique()):
        yield (
            f"{len(repeated)} {kind} names occur more than once: {listing(repeated)}; make them unique, for example "
            f"with anndata's {table}_names_make_unique()."
        )


def _values_that_are_no_counts(values: np.ndarray) -> Iterator[str]:
    kinds = ("not finite", "negative", "not whole")
    found, first = dict.fromkeys(kinds, 0), dict.fromkeys(kinds, 0.0)
    for here in row_slices(values.size, _CHUNK):
        data = values[here]
        finite = np.isfinite(data)
        for kind, bad in zip(kinds, (~finite, data < 0, finite & (data != np.round(data))), strict=True):
            if bad.any():
                first[kind] = first[kind] if found[kind] else data[bad][0]
                found[kind] += int(bad.sum())
    if wrong := [
        f"{found[kind]} values of X are {kind}, the first is {first[kind]:g}" for kind in kinds if found[kind]
    ]:
        yield f"{'; '.join(wrong)}; X must hold raw counts. If they are in a layer, set data.counts_layer to its name."


def _missing_values(obs: pd.DataFrame) -> Iterator[str]:
    for name, n_missing in obs.isna().sum().items():
        if n_missing:
            yield f"column '{name}' has no value for {n_missing} of {len(obs)} cells: fill them in or drop the cells."


def _other_types(obs: pd.DataFrame) -> Iterator[str]:
    if other := [name for name in obs if not isinstance(obs[name].dtype, pd.CategoricalDtype)]:
        yield f"columns that are not categorical: {listing(other)}; convert them with astype('category')."


def _unusable_conditions(conditions: pd.Series, keys: Keys) -> Iterator[str]:
    counts = conditions.value_counts()
    nameless = [name for name in counts.index if not str(name).strip()]
    if n_nameless := int(counts[nameless].sum()):
        yield f"{n_nameless} cells have an empty name in 'condition'; name them or drop them."
    names = sorted(set(counts.index) - set(nameless))
    if broken := [name for name in names if is_broken(name, keys)]:
        yield (
            f"{len(broken)} perturbation names have the delimiter '{keys.delimiter}' inside a name: {listing(broken)}; "
            "give them another name with data.rename_perturbations, or set data.delimiter to null if there are no "
            "combinations."
        )
    if unsorted := [name for name in names if name not in broken and keys.canonical(str(name)) != name]:
        yield f"{len(unsorted)} combinations are not in sorted order: {listing(unsorted)}."


def _missing_controls(obs: pd.DataFrame, keys: Keys, min_controls: int) -> Iterator[str]:
    """Report states with too few controls; cells with a missing covariate are reported by another rule."""
    is_control = obs[keys.perturbation] == keys.control
    if not is_control.any():
        yield f"no control cells: no value of '{keys.perturbation}' is '{keys.control}'."
        return
    if not keys.covariates:
        return
    controls = is_control.groupby([obs[key].astype(str) for key in keys.covariates]).sum()
    poor = controls[controls < min_controls]
    states = [state_name(name if isinstance(name, tuple) else (name,)) for name in poor.index]
    if poor.any():
        yield (
            f"under {min_controls} control cells (data.min_controls) in {len(poor)} of {len(controls)} states: "
            f"{listing(f'{state} {count}' for state, count in zip(states, poor, strict=True))}."
        )
    elif states:
        yield (
            f"no control cells in {len(poor)} of {len(controls)} states: {listing(states)}. Every state needs "
            "controls: add them, drop the state, or check the control value."
        )
