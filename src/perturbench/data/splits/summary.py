"""Summary of a split: perturbations, cells and controls of each part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from perturbench.data.labels import PARTS
from perturbench.data.splits.parts import control_counts, count_cells, perturbed_counts

if TYPE_CHECKING:
    from perturbench.data.groups import Groups


def split_summary(split: pd.Series, groups: Groups) -> pd.DataFrame:
    """Count perturbations, perturbed cells and control cells of each state and part.

    Returns
    -------
    One row per state and part that has cells, with the imbalance of the part: 1 minus the normalised entropy of its
    numbers of perturbations per state (appendix C.2). The parts are train, val, test, the three together (``used``)
    and the cells without a label (``unused``).
    """
    cells = count_cells(split, groups)
    cells = np.stack([*cells[: len(PARTS)], cells[: len(PARTS)].sum(axis=0), cells[len(PARTS)]])
    perturbed, controls = perturbed_counts(cells, groups), control_counts(cells, groups)
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
    """Return 1 minus the normalised entropy of the numbers of perturbations per state (appendix C.2).

    0 means balanced, also for a single state. States without perturbations are left out.
    """
    counts = counts[counts > 0]
    if len(counts) < 2:
        return 0.0
    share = counts / counts.sum()
    return float(max(0.0, 1 + (share * np.log(share)).sum() / np.log(len(counts))))
