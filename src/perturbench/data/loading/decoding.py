"""Decoding of batches: from multi-hot and one-hot tensors back to names of perturbations and states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from perturbench.data.encoding import context_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perturbench.data.encoding import Context
    from perturbench.data.groups import Keys, Pair
    from perturbench.data.types import Batch


def decode_pairs(batch: Batch, context: Context) -> tuple[list[Pair], np.ndarray]:
    """Return the distinct (state, perturbation) pairs of a batch, and the position of each cell's pair among them."""
    keys = context_keys(context)
    n_perturbations = len(context["perturbation_uniques"])
    levels = [level for levels in context["covariate_uniques"].values() for level in levels]
    encoded = torch.cat([batch.perturbations, *batch.covariates.values()], dim=1).cpu()
    # A batch has few distinct pairs, so decoding each pair once is faster than decoding every cell.
    rows, codes = torch.unique(encoded, dim=0, return_inverse=True)
    pairs = []
    for row in rows.bool().numpy():
        singles = [context["perturbation_uniques"][i] for i in np.flatnonzero(row[:n_perturbations])]
        state = tuple(levels[i] for i in np.flatnonzero(row[n_perturbations:]))
        pairs.append((state, (keys.delimiter or "").join(singles) or str(keys.control)))
    return pairs, codes.numpy()


def obs_of_pairs(
    pairs: Sequence[Pair], codes: np.ndarray, keys: Keys, control_cells: np.ndarray | None = None
) -> pd.DataFrame:
    """Return the annotation ``obs`` of predicted cells.

    Parameters
    ----------
    pairs
        Predicted (state, perturbation) pairs.
    codes
        Position of each cell's pair in ``pairs``, ``(n_cells,)``.
    keys
        Names of the columns with the perturbation and the covariates.
    control_cells
        Name of the control cell that each prediction starts from, ``(n_cells,)``; by default, the names are empty.

    Returns
    -------
    One row per cell with its perturbation and covariates, which are categorical, and its ``control_cell``.
    """
    columns = [keys.perturbation, *keys.covariates]
    obs = pd.DataFrame([[perturbation, *state] for state, perturbation in pairs], columns=columns)
    obs = obs.astype("category").iloc[codes]
    obs["control_cell"] = "" if control_cells is None else control_cells
    return obs.set_axis([f"cell{i}" for i in range(len(codes))])
