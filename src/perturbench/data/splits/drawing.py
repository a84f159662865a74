"""From what is held out to a label for every cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from perturbench.data.groups import Groups
from perturbench.data.labels import PARTS
from perturbench.data.splits.checks import check_split
from perturbench.data.splits.holding_out import HOLD_OUT
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
        One row per cell; the order of its rows does not matter.
    keys
        Its columns.
    method
        ``transfer``: perturbations of one state, seen in others. ``combine``: combinations of seen perturbations.
        ``combine_inverse``: single perturbations, seen in a double whose other single is seen, too. ``manual``: a
        fraction of the perturbations of given states. ``unseen``: perturbations, and all combinations with them, of
        one of k folds.
    rules
        What takes part, and how much is held out.
    seed
        Of every random choice.

    Returns
    -------
    Label of each cell, indexed like ``obs``; missing for cells that take no part.

    Raises
    ------
    PerturbenchError
        If the method or a state is unknown, a part would be empty, a state lacks controls for the parts it is in, or
        a held-out pair has a perturbation that training does not see (for ``unseen``: that it sees).
    """
    require_choice("split method", method, HOLD_OUT)
    groups = Groups.from_obs(obs, keys)
    rng = np.random.default_rng(seed)
    selection = select(groups, rules, rng)
    heldout = HOLD_OUT[method](selection, rules, rng)
    if not heldout:
        raise PerturbenchError(
            f"the {method} split holds nothing out of {len(selection.pairs)} perturbations in {len(selection.states)} "
            f"states: max_heldout_fraction_per_covariate={rules.max_heldout_fraction_per_covariate} of each state's is "
            f"less than one, or all must stay in training in min_train_covariates={rules.min_train_covariates} states."
        )
    codes = _pair_labels(groups, selection, heldout)[groups.state_codes, groups.condition_codes]
    _split_controls(codes, obs.index, groups, heldout, rules, rng)
    split = pd.Series(_LABELS[codes], index=obs.index, name="split")
    check_split(split, groups, method=method, strict=rules.strict)
    return split


def _pair_labels(groups: Groups, selection: Selection, heldout: Mapping[Pair, str]) -> np.ndarray:
    """Return the part of each state and perturbation, controls in training, as codes ``(n_states, n_conditions)``."""
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
    """Give every part of every state with held-out pairs its share of the state's controls, at least one each."""
    rows = np.flatnonzero(groups.is_control)
    state_codes = groups.state_codes[rows]
    heldout_states = {state for state, _ in heldout}
    for code, state in enumerate(groups.states):
        if state not in heldout_states:
            continue
        controls = rows[state_codes == code]
        if len(controls) < 3:
            continue  # too few for all parts: the check of the whole split refuses it, by name
        controls = controls[np.argsort(names[controls].to_numpy().astype(str), kind="stable")]
        n_train = int(np.clip(round(len(controls) * rules.train_control_fraction), 1, len(controls) - 2))
        rest = len(controls) - n_train
        n_test = int(np.clip(round(rest * rules.test_fraction), 1, rest - 1))
        shuffled = rng.permutation(controls)
        codes[shuffled[n_train : n_train + n_test]] = TEST
        codes[shuffled[n_train + n_test :]] = VAL
