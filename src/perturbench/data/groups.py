"""Names of perturbations and states, and the integer codes that vectorised steps use instead of names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from perturbench.errors import PerturbenchError, listing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd

State = tuple[str, ...]
Pair = tuple[State, str]


@dataclass(frozen=True)
class Keys:
    """The columns of ``obs`` that name perturbation and covariates, and the notation of perturbations.

    Attributes
    ----------
    perturbation
        Column with the perturbation of each cell.
    covariates
        Columns whose values, in this order, make up the state of a cell; may be empty.
    control
        Value of ``perturbation`` for unperturbed cells; ``None`` if the data has none.
    delimiter
        Text between the single perturbations of a combination; ``None`` if there are no combinations.
    """

    perturbation: str = "condition"
    covariates: tuple[str, ...] = ("cell_type",)
    control: str | None = "control"
    delimiter: str | None = "+"

    def singles(self, condition: str) -> tuple[str, ...]:
        """Return the single perturbations of a condition, sorted; an empty tuple for the control."""
        parts = [condition] if self.delimiter is None else condition.split(self.delimiter)
        return tuple(sorted({part.strip() for part in parts} - {self.control}))

    def canonical(self, condition: str) -> str:
        """Return the unique name of a set of perturbations: ``B+A`` and ``A+B`` both become ``A+B``."""
        singles = self.singles(condition)
        if not singles:
            return condition if self.control is None else self.control
        return (self.delimiter or "").join(singles)


@dataclass(frozen=True)
class Groups:
    """State and perturbation of each cell, as integer codes.

    Attributes
    ----------
    keys
        Columns of ``obs`` that the codes were made from.
    states, conditions
        Distinct states, and distinct perturbations under their canonical names; both sorted.
    state_codes, condition_codes
        Position of each cell's state in ``states`` and of its perturbation in ``conditions``, ``(n_cells,)``.
    control_code
        Position of the control in ``conditions``; ``None`` if no cell is a control.
    is_control
        Whether each cell is a control, ``(n_cells,)``.
    """

    keys: Keys
    states: tuple[State, ...]
    conditions: tuple[str, ...]
    state_codes: np.ndarray
    condition_codes: np.ndarray
    control_code: int | None = field(init=False)
    is_control: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        control = self.keys.control
        code = self.conditions.index(control) if control in self.conditions else None
        object.__setattr__(self, "control_code", code)
        object.__setattr__(self, "is_control", self.condition_codes == (-1 if code is None else code))

    @classmethod
    def from_obs(cls, obs: pd.DataFrame, keys: Keys) -> Groups:
        """Encode the state and the perturbation of each row of ``obs``.

        Raises
        ------
        PerturbenchError
            If a column is missing or has missing values.
        """
        check_columns(obs, keys)
        # Two spellings of one combination are two values of the column, but one condition.
        names, codes = _factorize(obs[keys.perturbation])
        canonical = [keys.canonical(name) for name in names]
        conditions = tuple(sorted(set(canonical)))
        position = {name: code for code, name in enumerate(conditions)}
        condition_codes = np.array([position[name] for name in canonical], dtype=np.int64)[codes]

        states: tuple[State, ...] = ((),)
        state_codes = np.zeros(len(obs), dtype=np.int64)
        if keys.covariates:
            columns = [_factorize(obs[key]) for key in keys.covariates]
            # One integer per possible state: np.unique is much faster on integers than on tuples.
            shape = [max(1, len(values)) for values, _ in columns]
            flat, state_codes = np.unique(
                np.ravel_multi_index([codes for _, codes in columns], shape), return_inverse=True
            )
            rows = zip(*np.unravel_index(flat, shape), strict=True)
            states = tuple(tuple(values[code] for (values, _), code in zip(columns, row, strict=True)) for row in rows)
        return cls(keys, states, conditions, state_codes, condition_codes)

    def pairs(self, mask: np.ndarray | None = None) -> list[Pair]:
        """Return the distinct (state, perturbation) pairs of perturbed cells (where ``mask`` is true), sorted."""
        perturbed = ~self.is_control if mask is None else (~self.is_control & mask)
        n_conditions = len(self.conditions)
        codes = np.unique(self.state_codes[perturbed] * n_conditions + self.condition_codes[perturbed])
        return [(self.states[code // n_conditions], self.conditions[code % n_conditions]) for code in codes]

    def pair_codes(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Return the position of each cell's pair in ``pairs``, ``(n_cells,)``; -1 for cells of other pairs."""
        table = np.full((len(self.states), len(self.conditions)), -1, dtype=np.int64)
        states = {state: code for code, state in enumerate(self.states)}
        conditions = {name: code for code, name in enumerate(self.conditions)}
        for code, (state, condition) in enumerate(pairs):
            if state in states and condition in conditions:
                table[states[state], conditions[condition]] = code
        return table[self.state_codes, self.condition_codes]


def check_columns(obs: pd.DataFrame, keys: Keys) -> None:
    """Raise unless every key is a column of ``obs`` without missing values.

    Raises
    ------
    PerturbenchError
        If a column is missing, or has missing values.
    """
    for role, key in [("perturbation", keys.perturbation), *(("covariate", key) for key in keys.covariates)]:
        if key not in obs.columns:
            raise PerturbenchError(
                f"{role} column '{key}' is not in obs; columns are: {listing(obs.columns, 30)}. "
                "Set the name of the column in the data section of the task."
            )
        if n_missing := int(obs[key].isna().sum()):
            raise PerturbenchError(
                f"{role} column '{key}' has no value for {n_missing} of {len(obs)} cells; "
                "fill in the values or drop the cells."
            )


def state_name(state: Iterable[str]) -> str:
    """Format a state for messages."""
    return "(" + ", ".join(state) + ")"


def pair_name(pair: Pair) -> str:
    """Format a (state, perturbation) pair for messages."""
    state, condition = pair
    return f"{condition} in {state_name(state)}" if state else condition


def _factorize(column: pd.Series) -> tuple[list[str], np.ndarray]:
    """Return the distinct values as sorted text, and the position of each row's value among them."""
    values = column.astype("category").cat
    names = [str(name) for name in values.categories]
    used = np.unique(values.codes)
    order = sorted(used, key=lambda code: names[code])
    lookup = np.full(len(names), -1, dtype=np.int64)
    lookup[order] = np.arange(len(order))
    return [names[code] for code in order], lookup[values.codes.to_numpy()]
