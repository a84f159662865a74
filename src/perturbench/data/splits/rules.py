"""Which cells a split uses, and how many perturbations it holds out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from perturbench.errors import PerturbenchError
from perturbench.parameters import Parameters

Selectors = Sequence[Mapping[str, Any]]


class SplitRules(Parameters):
    """Which states and perturbations take part in a split, and how many are held out.

    A state is given by the values of all its covariates, ``{"cell_type": "a172", "treatment": "none"}``.

    Attributes
    ----------
    max_heldout_covariates
        m: a perturbation is held out in at most this many states (``transfer``).
    max_heldout_fraction_per_covariate
        f: at most this fraction of a state's perturbations is held out. ``combine`` counts the state's combinations,
        ``combine_inverse`` its single perturbations that can be inferred from a combination.
    max_heldout_perturbations_per_covariate
        At most this many perturbations of a state are held out; ``None`` for no limit besides the fraction.
    min_train_covariates
        A perturbation stays in training in at least this many states (``transfer``; single ones for ``manual``).
    test_fraction
        Fraction of the held-out pairs that is test; the rest is val. ``unseen`` uses it for control cells only.
    train_control_fraction
        Fraction of a state's control cells that is in training; the rest goes to val and test.
    heldout_states
        States in which perturbations are held out (``manual``).
    strict
        Refuse held-out combinations whose single perturbations training never sees alone.
    n_folds, fold
        Perturbations are dealt into ``n_folds`` folds. Fold ``fold``, counted from 0, is test, and the next one is val
        (``unseen``).
    downsample_fraction
        Fraction of the single perturbations that is used. A combination is used if all of its singles are.
    perturbations_per_state
        Number of perturbations to use of a state, by the state's values joined by ``", "``. States that are not named
        use all.
    states
        States in which perturbations may be held out; all if empty. Cells of other states are not used.
    train_states
        Further states whose cells are all in training. They do not influence what is held out. ``"others"`` means all
        states that are not in ``states``.
    """

    max_heldout_covariates: int = Field(default=1, ge=1)
    max_heldout_fraction_per_covariate: float = Field(default=0.3, gt=0, le=1)
    max_heldout_perturbations_per_covariate: int | None = Field(default=None, ge=1)
    min_train_covariates: int = Field(default=1, ge=1)
    test_fraction: float = Field(default=0.5, gt=0, lt=1)
    train_control_fraction: float = Field(default=0.5, gt=0, lt=1)
    heldout_states: tuple[dict[str, Any], ...] = ()
    strict: bool = False
    n_folds: int = Field(default=5, ge=3)
    fold: int = Field(default=0, ge=0)
    downsample_fraction: float = Field(default=1.0, gt=0, le=1)
    perturbations_per_state: dict[str, PositiveInt] = Field(default={})
    states: tuple[dict[str, Any], ...] = ()
    train_states: Literal["others"] | tuple[dict[str, Any], ...] = ()

    @model_validator(mode="after")
    def _known_fold(self) -> Self:
        if self.fold >= self.n_folds:
            raise PerturbenchError(
                f"fold is {self.fold}; with n_folds={self.n_folds} it is one of 0 to {self.n_folds - 1}."
            )
        return self

    def capacity(self, n_perturbations: int) -> int:
        """Return how many of a state's perturbations may be held out."""
        by_fraction = int(np.floor(self.max_heldout_fraction_per_covariate * n_perturbations + 1e-9))
        limit = self.max_heldout_perturbations_per_covariate
        return by_fraction if limit is None else min(by_fraction, limit)
