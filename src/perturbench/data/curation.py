"""From a source's counts to the standard form that every later step relies on."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from perturbench.data.groups import Groups, Keys, check_columns
from perturbench.data.matching import ControlPool
from perturbench.errors import PerturbenchError, listing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import anndata as ad


logger = logging.getLogger(__name__)
#: Where curation puts perturbations, and what it calls controls.
STANDARD = Keys("condition", (), "control")
_BRACKETS = {"(": ")", "[": "]", "{": "}"}


def standardise(adata: ad.AnnData, keys: Keys, rename: Mapping[str, str] | None = None) -> ad.AnnData:
    """Check raw counts and write perturbations in their one standard form.

    Parameters
    ----------
    adata
        Raw counts, ``(n_cells, n_genes)``, sparse or dense.
    keys
        The columns of its ``obs``.
    rename
        New names of perturbations whose own contain the delimiter or are misspelled.

    Returns
    -------
    A copy with CSR float32 counts and perturbations in ``obs["condition"]``: combinations in sorted order, controls as
    ``control``. A column ``condition`` of another meaning is kept as ``condition_source``.

    Raises
    ------
    PerturbenchError
        On duplicate cell or gene names, counts that are not whole or are negative, a missing column or value, a
        delimiter inside a name, no control cells at all or in a state.
    """
    adata = adata.copy()
    check_names(adata)
    adata.X = sp.csr_matrix(adata.X, dtype=np.float32)
    check_counts(adata.X)
    if STANDARD.perturbation in keys.covariates:
        raise PerturbenchError(
            f"covariate '{STANDARD.perturbation}' has the name that perturbations get; give the column another name."
        )
    names = _standard_names(adata.obs, keys, rename or {})
    if keys.perturbation != STANDARD.perturbation and STANDARD.perturbation in adata.obs.columns:
        adata.obs["condition_source"] = adata.obs[STANDARD.perturbation]
    adata.obs[STANDARD.perturbation] = names
    for key in keys.covariates:
        adata.obs[key] = adata.obs[key].astype("category")
    groups = Groups.from_obs(adata.obs, replace(keys, perturbation="condition", control="control"))
    ControlPool(groups, np.arange(adata.n_obs)).require(groups.state_codes)
    return adata


def check_names(adata: ad.AnnData) -> None:
    """Raise on duplicate cell or gene names.

    Raises
    ------
    PerturbenchError
        Naming the duplicates.
    """
    for what, names in (("cell", adata.obs_names), ("gene", adata.var_names)):
        if doubled := list(names[names.duplicated()].unique()):
            raise PerturbenchError(
                f"{len(doubled)} {what} names occur more than once: {listing(doubled)}; make them unique, for example "
                f"with anndata's {'obs' if what == 'cell' else 'var'}_names_make_unique()."
            )


def check_counts(x: sp.csr_matrix) -> None:
    """Raise unless every value is a whole number of at least 0.

    Raises
    ------
    PerturbenchError
        With the number of offending values and the first of them.
    """
    for what, bad in (
        ("not finite", ~np.isfinite(x.data)),
        ("negative", x.data < 0),
        ("not whole", x.data != np.round(x.data)),
    ):
        if bad.any():
            raise PerturbenchError(
                f"{int(bad.sum())} values of X are {what}, the first is {x.data[bad][0]:g}; X must hold raw counts. "
                "If they are in a layer, set data.counts_layer to its name."
            )


def _standard_names(obs: pd.DataFrame, keys: Keys, rename: Mapping[str, str]) -> pd.Categorical:
    check_columns(obs, keys)
    column = obs[keys.perturbation].astype(str)
    if strangers := sorted(set(rename) - set(column)):
        raise PerturbenchError(f"data.rename names perturbations that do not occur: {listing(strangers)}.")
    column = column.replace(dict(rename))
    names = {name: keys.canonical(name) for name in column.unique()}
    if nameless := [name for name in names if not name.strip()]:
        cells = int(column.isin(nameless).sum())
        raise PerturbenchError(f"{cells} cells have an empty name in '{keys.perturbation}'; name them or drop them.")
    if keys.control not in names.values():
        raise PerturbenchError(
            f"no control cells: no value of '{keys.perturbation}' is '{keys.control}'; "
            f"values are: {listing(sorted(set(names.values())))}. Set data.control to the one that marks controls."
        )
    if keys.control != STANDARD.control and STANDARD.control in names.values():
        raise PerturbenchError(
            f"a perturbation is called '{STANDARD.control}', but controls are '{keys.control}'; give it another name "
            "with data.rename."
        )
    if keys.delimiter is not None and (broken := sorted(filter(lambda name: _is_broken(name, keys), names))):
        raise PerturbenchError(
            f"{len(broken)} perturbation names have the delimiter '{keys.delimiter}' inside a name: {listing(broken)}; "
            "give them another name with data.rename, or set data.delimiter to null if there are no combinations."
        )
    _warn_of_lone_combinations(names.values(), keys)
    standard = {name: STANDARD.control if new == keys.control else new for name, new in names.items()}
    return pd.Categorical(column.map(standard))


def _warn_of_lone_combinations(names: Iterable[str], keys: Keys) -> None:
    """Warn of combinations whose parts occur nowhere else: the delimiter may be part of a name."""
    singles = {name: keys.singles(name) for name in set(names)}
    uses = Counter(single for parts in singles.values() for single in parts)
    lone = sorted(name for name, parts in singles.items() if len(parts) > 1 and all(uses[part] == 1 for part in parts))
    if lone:
        logger.warning(
            "the parts of %d combinations occur nowhere else: %s; if '%s' belongs to a name, give it another with "
            "data.rename",
            len(lone),
            listing(lone),
            keys.delimiter,
        )


def _is_broken(name: str, keys: Keys) -> bool:
    """Say whether splitting at the delimiter leaves an empty part or tears a bracket apart."""
    parts = name.split(keys.delimiter)
    return len(parts) > 1 and any(
        not part.strip() or any(part.count(left) != part.count(right) for left, right in _BRACKETS.items())
        for part in parts
    )
