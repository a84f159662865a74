"""From a source's counts to the standard form that every later step relies on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from perturbench.data.groups import Groups, check_columns
from perturbench.data.matching import ControlPool
from perturbench.errors import PerturbenchError, listing

if TYPE_CHECKING:
    from collections.abc import Mapping

    import anndata as ad

    from perturbench.data.groups import Keys

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
    A copy with CSR float32 counts, and with combinations written in sorted order.

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
    adata.obs[keys.perturbation] = _standard_names(adata.obs, keys, rename or {})
    for key in keys.covariates:
        if key in adata.obs.columns:
            adata.obs[key] = adata.obs[key].astype("category")
    groups = Groups.from_obs(adata.obs, keys)
    check_controls(groups)
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


def check_controls(groups: Groups) -> None:
    """Raise unless there are control cells in every state.

    Raises
    ------
    PerturbenchError
        Naming the control value and the perturbations, or the states without controls.
    """
    keys = groups.keys
    if not groups.is_control.any():
        raise PerturbenchError(
            f"no control cells: no value of '{keys.perturbation}' is '{keys.control}'; "
            f"values are: {listing(groups.conditions)}. Set data.control to the one that marks controls."
        )
    ControlPool(groups, np.arange(len(groups.state_codes))).require(groups.state_codes)


def _standard_names(obs: pd.DataFrame, keys: Keys, rename: Mapping[str, str]) -> pd.Categorical:
    check_columns(obs, keys)
    column = obs[keys.perturbation].astype(str)
    if strangers := sorted(set(rename) - set(column)):
        raise PerturbenchError(f"data.rename names perturbations that do not occur: {listing(strangers)}.")
    column = column.replace(dict(rename))
    names = {name: keys.canonical(name) for name in column.unique()}
    if keys.delimiter is not None and (broken := sorted(filter(lambda name: _is_broken(name, keys), names))):
        raise PerturbenchError(
            f"{len(broken)} perturbation names have the delimiter '{keys.delimiter}' inside a name: {listing(broken)}; "
            "give them another name with data.rename, or set data.delimiter to null if there are no combinations."
        )
    return pd.Categorical(column.map(names))


def _is_broken(name: str, keys: Keys) -> bool:
    """Say whether splitting at the delimiter leaves an empty part or tears a bracket apart."""
    parts = name.split(keys.delimiter)
    return len(parts) > 1 and any(
        not part.strip() or any(part.count(left) != part.count(right) for left, right in _BRACKETS.items())
        for part in parts
    )
