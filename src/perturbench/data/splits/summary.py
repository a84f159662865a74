"""What is in each part of a split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from perturbench.data.labels import PARTS
from perturbench.data.splits.parts import count_cells, of_controls, without_controls

if TYPE_CHECKING:
    from perturbench.data.groups import Groups


def split_summary(split: pd.Series, groups: Groups) -> pd.DataFrame:
    """Count perturbations, perturbed cells and control cells of each state and part.

    Returns
    -------
    One row per state and part that has cells, with the imbalance of the part: 1 - normalised entropy of its
    perturbations per state (appendix C.2). The parts are train, val, test, all three together (``used``) and the cells
    that are in none (``unused``).
    """
    cells = count_cells(split, groups)
    cells = np.stack([*cells[: len(PARTS)], cells[: len(PARTS)].sum(axis=0), cells[len(PARTS)]])
    perturbed, controls = without_controls(cells, groups), of_controls(cells, groups)
    perturbations = (perturbed > 0).sum(axis=2)
    rows = []
    for part, name in enumerate((*PARTS, "used", "unused")):
        for code in np.flatnonzero(cells[part].any(axis=1)):
            rows.append(
                dict(zip(groups.keys.covariates, groups.states[code], strict=True))
                | {
                    "split": name,
                    "perturbations": int(perturbations[part, code]),
                    "cells": int(perturbed[part, code].sum()),
                    "controls": int(controls[part, code]),
                    "imbalance": imbalance(perturbations[part]),
                }
            )
    return pd.DataFrame(rows)


def imbalance(counts: np.ndarray) -> float:
    """Return 1 - normalised entropy of the perturbations per state, over states that have any (appendix C.2).

    0 is balanced, also for a single state.
    """
    counts = counts[counts > 0]
    if len(counts) < 2:
        return 0.0
    share = counts / counts.sum()
    return float(max(0.0, 1 + (share * np.log(share)).sum() / np.log(len(counts))))
