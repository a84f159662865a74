"""Bring perturbation names and counts into the standard form."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from perturbench.data.curation.schema import check_curated, is_broken
from perturbench.data.groups import Keys
from perturbench.data.sparse import sum_repeated
from perturbench.errors import PerturbenchError, listing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

logger = logging.getLogger(__name__)
#: Column of perturbations and name of controls after curation.
STANDARD = Keys("condition", (), "control")


def standardise(
    adata: ad.AnnData, keys: Keys, rename: Mapping[str, str] | None = None, min_controls: int = 1
) -> ad.AnnData:
    """Bring perturbation names and counts into the standard form, and check the result.

    Parameters
    ----------
    adata
        Raw counts, ``(n_cells, n_genes)``, sparse or dense.
    keys
        The columns of its ``obs``.
    rename
        New names, by old name, of perturbations that contain the delimiter or are misspelled.
    min_controls
        Smallest number of control cells that a state may have.

    Returns
    -------
    Cells with CSR float32 counts and perturbations in ``obs["condition"]``: combinations in sorted order, controls as
    ``control``. An existing column ``condition`` is kept as ``condition_source`` if perturbations come from another
    column. Counts that are CSR float32 already are shared with the input, not copied.

    Raises
    ------
    PerturbenchError
        If a column is missing, a name of ``rename`` does not occur, a perturbation is called ``control``, or
        :func:`check_curated` finds violations.
    """
    _require_columns(adata.obs, keys)
    names = _standard_names(adata.obs[keys.perturbation], keys, rename or {})
    obs = adata.obs.copy()
    if keys.perturbation != STANDARD.perturbation and STANDARD.perturbation in obs.columns:
        obs["condition_source"] = obs[STANDARD.perturbation]
    obs[STANDARD.perturbation] = names
    for key in keys.covariates:
        obs[key] = obs[key].astype("category").cat.remove_unused_categories()
    curated = ad.AnnData(
        sum_repeated(sp.csr_matrix(adata.X, dtype=np.float32)),
        obs=obs,
        var=adata.var.copy(),
        uns=dict(adata.uns),
        obsm=dict(adata.obsm),
        varm=dict(adata.varm),
    )
    check_curated(curated, replace(keys, perturbation="condition", control="control"), min_controls)
    return curated


def _require_columns(obs: pd.DataFrame, keys: Keys) -> None:
    if STANDARD.perturbation in keys.covariates:
        raise PerturbenchError(
            f"covariate '{STANDARD.perturbation}' has the name of the column that perturbations are written to; rename "
            "the covariate's column."
        )
    roles = {"perturbation": [keys.perturbation], "covariate": [*keys.covariates]}
    absent = [f"{role} column '{key}'" for role, names in roles.items() for key in names if key not in obs.columns]
    if absent:
        raise PerturbenchError(
            f"{listing(absent)} {'is' if len(absent) == 1 else 'are'} not in obs; columns are: "
            f"{listing(obs.columns, 30)}. Name the right one in the task's data section."
        )


def _standard_names(column: pd.Series, keys: Keys, rename: Mapping[str, str]) -> pd.Categorical:
    """Return the standard name of each cell's perturbation; unusable names stay, for the check to report them."""
    values = column.astype("category").cat.remove_unused_categories().cat
    sources = [str(name) for name in values.categories]
    if unknown := sorted(set(rename) - set(sources)):
        raise PerturbenchError(f"data.rename_perturbations names perturbations that do not occur: {listing(unknown)}.")
    renamed = [rename.get(name, name) for name in sources]
    names = [name if is_broken(name, keys) or not name.strip() else keys.canonical(name) for name in renamed]
    if keys.control not in names:
        raise PerturbenchError(
            f"no control cells: no value of '{keys.perturbation}' is '{keys.control}'; "
            f"values are: {listing(sorted(set(names)))}. Set data.control to the one that marks controls."
        )
    if keys.control != STANDARD.control and STANDARD.control in names:
        raise PerturbenchError(
            f"a perturbation is called '{STANDARD.control}', but controls are '{keys.control}'; give it another name "
            "with data.rename_perturbations."
        )
    _warn_of_lone_combinations(names, keys)
    standard = [STANDARD.control if name == keys.control else name for name in names]
    return pd.Categorical(np.array([*standard, None], dtype=object)[values.codes.to_numpy()])


def _warn_of_lone_combinations(names: Iterable[str], keys: Keys) -> None:
    """Warn about combinations whose single perturbations occur nowhere else: the delimiter may be part of a name."""
    singles = {name: keys.singles(name) for name in set(names)}
    uses = Counter(single for parts in singles.values() for single in parts)
    lone = sorted(name for name, parts in singles.items() if len(parts) > 1 and all(uses[part] == 1 for part in parts))
    if lone:
        logger.warning(
            "the single perturbations of %d combinations occur nowhere else: %s; if '%s' is part of a name, change the "
            "name with data.rename_perturbations",
            len(lone),
            listing(lone),
            keys.delimiter,
        )
