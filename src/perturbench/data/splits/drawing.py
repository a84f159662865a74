"""Drawing of a split: pairs are held out, and every cell gets a label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from perturbench.data.groups import Groups
from perturbench.data.labels import PARTS
from perturbench.data.splits.checks import check_split
from perturbench.data.splits.methods import HOLD_OUT
from perturbench.data.splits.selecting import select
from perturbench.errors import PerturbenchError, require_choice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perturbench.data.groups import Keys, Pair
    from perturbench.data.splits.rules import SplitRules
    from perturbench.data.splits.selecting import Selection

TRAIN, VAL, TEST = range(len(PARTS))
UNUSED = len(PARTS)
_LABELS = np.array([*PARTS, np.nan], dtype=object)


def split_cells(obs: pd.DataFrame, keys: Keys, method: str, rules: SplitRules, seed: int) -> pd.Series:
    """Assign every cell of ``obs`` to train, val or test.

    Parameters
    ----------
    obs
        Annotation of the cells, one row per cell. The order of the rows does not change the split.
    keys
        Names of the columns of ``obs`` with the perturbation and the covariates.
    method
        What is held out. ``transfer``: perturbations in one state that training has in other states. ``combine``:
        combinations of perturbations that training has. ``combine_inverse``: single perturbations that training has in
        a double, together with the other single perturbation of that double. ``manual``: a fraction of the
        perturbations of given states. ``unseen``: all perturbations of one of k folds, and all combinations with them.
    rules
        Which cells are used, and how much is held out.
    seed
        Seed of every random choice.

    Returns
    -------
    Label of each cell, indexed like ``obs``; missing for unused cells.

    Raises
    ------
    PerturbenchError
        If the method or a state is unknown, a part would be empty, a state has too few control cells for its parts, or
        a held-out perturbation is not in training (for ``unseen``: is in training).
    """
    require_choice("split method", method, HOLD_OUT)
    groups = Groups.from_obs(obs, keys)
    rng = np.random.default_rng(seed)
    selection = select(groups, rules, rng)
    heldout = HOLD_OUT[method](selection, rules, rng)
    if not heldout:
        raise PerturbenchError(
            f"the {method} split holds nothing out of {len(selection.pairs)} pairs in {len(selection.states)} states: "
            f"max_heldout_fraction_per_covariate={rules.max_heldout_fraction_per_covariate} is less than one "
            "perturbation of each state, or every perturbation must stay in training in "
            f"min_train_covariates={rules.min_train_covariates} states. Raise the fraction or lower that number."
        )
    codes = _pair_labels(groups, selection, heldout)[groups.state_codes, groups.condition_codes]
    _split_controls(codes, obs.index, groups, heldout, rules, rng)
    split = pd.Series(_LABELS[codes], index=obs.index, name="split")
    check_split(split, groups, method=method, strict=rules.strict)
    return split


def _pair_labels(groups: Groups, selection: Selection, heldout: Mapping[Pair, str]) -> np.ndarray:
    """Return the code of the part of each pair, ``(n_states, n_conditions)``; all controls are in training so far."""
    states = {state: code for code, state in enumerate(groups.states)}
    conditions = {name: code for code, name in enumerate(groups.conditions)}
    table = np.full((len(states), len(conditions)), UNUSED, dtype=np.int8)
    if groups.control_code is not None:
        table[[states[state] for state in (*selection.states, *selection.train_states)], groups.control_code] = TRAIN
    for state, condition in (*selection.pairs, *selection.train_pairs):
        table[states[state], conditions[condition]] = TRAIN
    for (state, condition), part in heldout.items():
        table[states[state], conditions[condition]] = PARTS.index(part)
    return table


def _split_controls(
    codes: np.ndarray,
    names: pd.Index,
    groups: Groups,
    heldout: Mapping[Pair, str],
    rules: SplitRules,
    rng: np.random.Generator,
) -> None:
    """Divide the control cells of each state with held-out pairs among the parts, at least one cell to each part."""
    rows = np.flatnonzero(groups.is_control)
    state_codes = groups.state_codes[rows]
    heldout_states = {state for state, _ in heldout}
    for code, state in enumerate(groups.states):
        if state not in heldout_states:
            continue
        controls = rows[state_codes == code]
        if len(controls) < 3:
            continue  # too few for three parts: check_split refuses the split and names the state
        # Sorted by name, so that the order of the rows of obs does not change the draw.
        controls = controls[np.argsort(names[controls].to_numpy().astype(str), kind="stable")]
        n_train = int(np.clip(round(len(controls) * rules.train_control_fraction), 1, len(controls) - 2))
        n_heldout = len(controls) - n_train
        n_test = int(np.clip(round(n_heldout * rules.test_fraction), 1, n_heldout - 1))
        shuffled = rng.permutation(controls)
        codes[shuffled[n_train : n_train + n_test]] = TEST
        codes[shuffled[n_train + n_test :]] = VAL
