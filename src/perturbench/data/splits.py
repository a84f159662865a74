"""Leak-proof splits into train, val and test (appendices A.3 and D.4)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from perturbench.data.groups import Groups, Pair, pair_name, state_name
from perturbench.errors import PerturbenchError, listing, require_choice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perturbench.data.groups import Keys

logger = logging.getLogger(__name__)
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class SplitRules:
    """How much may be held out.

    Attributes
    ----------
    max_heldout_covariates
        m: in at most this many states is a perturbation held out (``transfer``).
    max_heldout_fraction_per_covariate
        f: at most this fraction of a state's perturbations is held out.
    max_heldout_perturbations_per_covariate
        And at most this many.
    min_train_covariates
        In at least this many states a perturbation stays in training (``transfer``).
    test_fraction
        Of what is held out, the fraction that is test; the rest is val.
    train_control_fraction
        Fraction of a state's control cells in training; the rest goes to val and test.
    heldout_states
        States to hold perturbations out of, as covariate values (``manual``).
    strict
        Refuse combinations of perturbations that training never saw singly (``combine``).
    """

    max_heldout_covariates: int = 1
    max_heldout_fraction_per_covariate: float = 0.3
    max_heldout_perturbations_per_covariate: int | None = None
    min_train_covariates: int = 1
    test_fraction: float = 0.5
    train_control_fraction: float = 0.5
    heldout_states: Sequence[Mapping[str, str]] = field(default=())
    strict: bool = False

    def capacity(self, n_perturbations: int) -> int:
        """Return how many of a state's perturbations may be held out."""
        by_fraction = int(np.floor(self.max_heldout_fraction_per_covariate * n_perturbations + 1e-9))
        limit = self.max_heldout_perturbations_per_covariate
        return by_fraction if limit is None else min(by_fraction, limit)


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
        ``manual``: a fraction of the perturbations of given states.
    rules
        How much is held out.
    seed
        Of every random choice.

    Returns
    -------
    Label of each cell, indexed like ``obs``.

    Raises
    ------
    PerturbenchError
        If the method is unknown, a part would be empty, a state lacks controls for the parts it is in, or a held-out
        pair has a perturbation that training does not see.
    """
    require_choice("split method", method, _HOLD_OUT)
    groups = Groups.from_obs(obs, keys)
    rng = np.random.default_rng(seed)
    heldout = _HOLD_OUT[method](groups, rules, rng)
    if not heldout:
        raise PerturbenchError(
            f"the {method} split holds nothing out: no state has enough perturbations for "
            f"max_heldout_fraction_per_covariate={rules.max_heldout_fraction_per_covariate} "
            f"(largest has {max(_perturbations_per_state(groups).values(), default=0)}) and every perturbation must "
            f"stay in training in min_train_covariates={rules.min_train_covariates} states."
        )
    test = _draw_test(heldout, rules.test_fraction, rng)
    codes = groups.pair_codes(heldout)
    in_test = np.array([pair in test for pair in heldout])
    labels = np.where(codes < 0, "train", np.where(in_test[codes], "test", "val")).astype(object)
    _split_controls(labels, obs.index, groups, heldout, rules, rng)
    split = pd.Series(labels, index=obs.index, name="split")
    check_split(split, groups, strict=rules.strict)
    return split


def read_split(path: str | Path, obs: pd.DataFrame, keys: Keys) -> pd.Series:
    """Read a custom split: a csv of cell name and label, with or without a header; cells may be left out.

    Raises
    ------
    PerturbenchError
        If the file is not there, names unknown or doubled cells or labels, leaves a part empty or leaks.
    """
    if not Path(path).is_file():
        raise PerturbenchError(f"split file '{path}' not found; set splitter.path to a csv of cell name and label.")
    try:
        table = pd.read_csv(path, header=None, dtype=str, usecols=[0, 1], skipinitialspace=True)
    except ValueError as error:
        raise PerturbenchError(f"split file '{path}' is not a csv of cell name and label: {error}.") from error
    table = table.set_axis(["cell", "split"], axis=1)
    if table.loc[0, "split"] not in PARTS and table.loc[0, "cell"] not in obs.index:
        table = table.iloc[1:]
    table = table.dropna(subset=["split"])
    if table["cell"].duplicated().any():
        raise PerturbenchError(
            f"split file '{path}' names cells twice: {listing(table.loc[table['cell'].duplicated(), 'cell'])}."
        )
    for label in table["split"].unique():
        require_choice(f"split label in '{path}'", label, PARTS)
    if strangers := sorted(set(table["cell"]) - set(obs.index)):
        raise PerturbenchError(
            f"split file '{path}' names {len(strangers)} cells that the data does not have: {listing(strangers)}; "
            f"cells are named like '{obs.index[0]}'."
        )
    split = table.set_index("cell")["split"].reindex(obs.index)
    check_split(split, Groups.from_obs(obs, keys), strict=False)
    return split


def check_split(split: pd.Series, groups: Groups, *, strict: bool) -> None:
    """Raise on an empty part, a leak, or a part with a state without controls.

    Parameters
    ----------
    split
        Label of each cell; missing where it is not used.
    groups
        Codes of the same cells.
    strict
        Refuse held-out combinations of perturbations that training never saw; else warn.

    Raises
    ------
    PerturbenchError
        Naming the part, the pairs and the counts.
    """
    labels = split.astype(object).fillna("").to_numpy()
    pairs = {part: groups.pairs(labels == part) for part in PARTS}
    for part in PARTS:
        if not pairs[part]:
            raise PerturbenchError(
                f"the {part} part of the split has no perturbed cells "
                f"({', '.join(f'{name}: {len(pairs[name])} pairs' for name in PARTS)}); "
                "hold out more or fewer perturbations (see the splitter section of the task)."
            )
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        if shared := sorted(set(pairs[one]) & set(pairs[other])):
            raise PerturbenchError(
                f"{len(shared)} pairs are in both {one} and {other}: {listing(map(pair_name, shared))}; "
                "a (state, perturbation) pair belongs to one part."
            )
    _check_seen(pairs, groups, strict)
    for part in PARTS:
        states = {groups.states.index(state) for state, _ in pairs[part]}
        with_controls = set(groups.state_codes[(labels == part) & groups.is_control])
        if bare := sorted(states - with_controls):
            raise PerturbenchError(
                f"no control cells in the {part} part of {len(bare)} states: "
                f"{listing(state_name(groups.states[code]) for code in bare)}; every part needs controls of its "
                "states (at least 3 control cells per state, one for each part)."
            )


def split_summary(split: pd.Series, groups: Groups) -> pd.DataFrame:
    """Count perturbations, perturbed cells and control cells of each state and part.

    Returns
    -------
    One row per state and part, with the imbalance of the part: 1 - normalised entropy of its perturbations per state
    (appendix C.2).
    """
    labels = split.astype(object).fillna("unused").to_numpy()
    rows = []
    for part in (*PARTS, "unused"):
        here = labels == part
        counts = np.array([len(_conditions(groups, here, code)) for code in range(len(groups.states))])
        for code, state in enumerate(groups.states):
            chosen = here & (groups.state_codes == code)
            if chosen.any():
                rows.append(
                    dict(zip(groups.keys.covariates, state, strict=True))
                    | {
                        "split": part,
                        "perturbations": int(counts[code]),
                        "cells": int((chosen & ~groups.is_control).sum()),
                        "controls": int((chosen & groups.is_control).sum()),
                        "imbalance": imbalance(counts),
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


def _hold_out_transfer(groups: Groups, rules: SplitRules, rng: np.random.Generator) -> list[Pair]:
    """Draw for each perturbation the states it is held out of, up to m states and f of each state."""
    states_of: dict[str, list] = {}
    for state, condition in groups.pairs():
        states_of.setdefault(condition, []).append(state)
    capacity = {state: rules.capacity(n) for state, n in _perturbations_per_state(groups).items()}
    heldout = []
    for condition in rng.permutation(sorted(states_of)):
        spare = len(states_of[condition]) - rules.min_train_covariates
        wanted = int(rng.integers(1, rules.max_heldout_covariates + 1))
        free = [state for state in states_of[condition] if capacity[state] > 0]
        for position in rng.permutation(len(free))[: max(0, min(wanted, spare))]:
            capacity[free[position]] -= 1
            heldout.append((free[position], str(condition)))
    return sorted(heldout)


def _hold_out_combine(groups: Groups, rules: SplitRules, rng: np.random.Generator) -> list[Pair]:
    """Draw f of each state's combinations; all single perturbations stay in training."""
    combinations = [pair for pair in groups.pairs() if len(groups.keys.singles(pair[1])) > 1]
    if not combinations:
        raise PerturbenchError(
            f"the combine split needs combinations of perturbations, joined by '{groups.keys.delimiter}'; "
            f"there are none among {listing(groups.conditions)}."
        )
    return _draw_fraction(combinations, rules, rng)


def _hold_out_manual(groups: Groups, rules: SplitRules, rng: np.random.Generator) -> list[Pair]:
    """Draw f of the perturbations of each given state."""
    if not rules.heldout_states:
        raise PerturbenchError("the manual split needs splitter.heldout_states: a list of covariate values.")
    chosen = []
    for selector in rules.heldout_states:
        if set(selector) != set(groups.keys.covariates):
            raise PerturbenchError(
                f"held-out state {dict(selector)} must name the covariates {listing(groups.keys.covariates)}."
            )
        state = tuple(str(selector[key]) for key in groups.keys.covariates)
        if state not in groups.states:
            raise PerturbenchError(
                f"held-out state {state_name(state)} matches no cell; states are: "
                f"{listing(map(state_name, groups.states), 40)}."
            )
        chosen.append(state)
    return _draw_fraction([pair for pair in groups.pairs() if pair[0] in chosen], rules, rng)


_HOLD_OUT = {"transfer": _hold_out_transfer, "combine": _hold_out_combine, "manual": _hold_out_manual}
METHODS = (*_HOLD_OUT, "csv")


def _draw_fraction(candidates: list[Pair], rules: SplitRules, rng: np.random.Generator) -> list[Pair]:
    heldout = []
    for state in sorted({state for state, _ in candidates}):
        pairs = [pair for pair in candidates if pair[0] == state]
        heldout += [pairs[position] for position in rng.permutation(len(pairs))[: rules.capacity(len(pairs))]]
    return sorted(heldout)


def _draw_test(heldout: list[Pair], test_fraction: float, rng: np.random.Generator) -> set[Pair]:
    """Draw the test pairs, stratified by state; what rounding leaves over is carried to the next state."""
    test: set[Pair] = set()
    n_seen = 0
    states = sorted({state for state, _ in heldout})
    for state in [states[position] for position in rng.permutation(len(states))]:
        pairs = [pair for pair in heldout if pair[0] == state]
        n_seen += len(pairs)
        n_test = round(n_seen * test_fraction) - len(test)
        test.update(pairs[position] for position in rng.permutation(len(pairs))[:n_test])
    return test


def _split_controls(
    labels: np.ndarray,
    names: pd.Index,
    groups: Groups,
    heldout: list[Pair],
    rules: SplitRules,
    rng: np.random.Generator,
) -> None:
    """Give every part of every state its share of the state's controls, at least one each."""
    by_name = names.astype(str).argsort()
    heldout_states = {state for state, _ in heldout}
    for code, state in enumerate(groups.states):
        controls = by_name[(groups.is_control & (groups.state_codes == code))[by_name]]
        if len(controls) < 3 or state not in heldout_states:
            continue  # a state without enough controls for all parts is refused, or needed by training alone
        n_train = int(np.clip(round(len(controls) * rules.train_control_fraction), 1, len(controls) - 2))
        rest = len(controls) - n_train
        n_test = int(np.clip(round(rest * rules.test_fraction), 1, rest - 1))
        shuffled = rng.permutation(controls)
        labels[shuffled[n_train : n_train + n_test]] = "test"
        labels[shuffled[n_train + n_test :]] = "val"


def _check_seen(pairs: Mapping[str, list[Pair]], groups: Groups, strict: bool) -> None:
    singles = groups.keys.singles
    trained = {single for _, condition in pairs["train"] for single in singles(condition)}
    trained_alone = {condition for _, condition in pairs["train"]} & trained
    trained_states = {state for state, _ in pairs["train"]}
    for part in ("val", "test"):
        if strange := sorted(pair for pair in pairs[part] if pair[0] not in trained_states):
            raise PerturbenchError(
                f"{len(strange)} {part} pairs are of states that training never saw: "
                f"{listing(map(pair_name, strange))}."
            )
        # A combination needs its single perturbations alone; a single one may also have been seen in combinations.
        seen = {pair: trained if len(singles(pair[1])) == 1 else trained_alone for pair in pairs[part]}
        unseen = {pair: sorted(set(singles(pair[1])) - seen[pair]) for pair in pairs[part]}
        unseen = {pair: names for pair, names in unseen.items() if names}
        wholly = sorted(pair for pair in unseen if len(singles(pair[1])) == 1)
        if wholly or (unseen and strict):
            alone, fix = ("", "") if wholly else (" alone", ", or set splitter.strict to false")
            raise PerturbenchError(
                f"{len(wholly or unseen)} {part} pairs have perturbations that training never saw{alone}: "
                f"{listing(map(pair_name, wholly or sorted(unseen)))}; keep each in training{fix}."
            )
        if unseen:
            logger.warning(
                "%d of %d %s combinations have perturbations that training never saw alone: %s",
                len(unseen),
                len(pairs[part]),
                part,
                listing(f"{pair_name(pair)} (unseen: {', '.join(names)})" for pair, names in sorted(unseen.items())),
            )


def _conditions(groups: Groups, mask: np.ndarray, state_code: int) -> np.ndarray:
    return np.unique(groups.condition_codes[mask & ~groups.is_control & (groups.state_codes == state_code)])


def _perturbations_per_state(groups: Groups) -> dict:
    counts = dict.fromkeys(groups.states, 0)
    for state, _ in groups.pairs():
        counts[state] += 1
    return counts
