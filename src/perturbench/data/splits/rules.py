"""What takes part in a split, and how much of it is held out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Selectors = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class SplitRules:
    """How much may be held out, and of what.

    A state is given by the values of all its covariates, ``{"cell_type": "a172", "treatment": "none"}``.

    Attributes
    ----------
    max_heldout_covariates
        m: in at most this many states is a perturbation held out (``transfer``).
    max_heldout_fraction_per_covariate
        f: at most this fraction of a state's perturbations is held out; of its combinations for ``combine``, of the
        singles that can be inferred for ``combine_inverse``.
    max_heldout_perturbations_per_covariate
        And at most this many.
    min_train_covariates
        In at least this many states a perturbation stays in training (``transfer``; single ones for ``manual``).
    test_fraction
        Of what is held out, the fraction that is test; the rest is val. For ``unseen``, of the controls alone.
    train_control_fraction
        Fraction of a state's control cells in training; the rest goes to val and test.
    heldout_states
        States to hold perturbations out of (``manual``).
    strict
        Refuse held-out combinations of perturbations that training never saw singly.
    n_folds, fold
        Perturbations are dealt into folds; this one, counted from 0, is test, and the next one val (``unseen``).
    downsample_fraction
        Fraction of the single perturbations that is used; a combination is used where all of its singles are.
    perturbations_per_state
        How many perturbations of a state are used, by its values joined by ``", "``; all of the other states.
    states
        States that the split is drawn on; all if empty. Cells of others are not used.
    train_states
        More states, whose cells are all in training and have no influence on what is held out; ``"others"`` for all
        that are not in ``states``.
    """

    max_heldout_covariates: int = 1
    max_heldout_fraction_per_covariate: float = 0.3
    max_heldout_perturbations_per_covariate: int | None = None
    min_train_covariates: int = 1
    test_fraction: float = 0.5
    train_control_fraction: float = 0.5
    heldout_states: Selectors = field(default=())
    strict: bool = False
    n_folds: int = 5
    fold: int = 0
    downsample_fraction: float = 1.0
    perturbations_per_state: Mapping[str, int] = field(default_factory=dict)
    states: Selectors = field(default=())
    train_states: Selectors | Literal["others"] = field(default=())

    def capacity(self, n_perturbations: int) -> int:
        """Return how many of a state's perturbations may be held out."""
        by_fraction = int(np.floor(self.max_heldout_fraction_per_covariate * n_perturbations + 1e-9))
        limit = self.max_heldout_perturbations_per_covariate
        return by_fraction if limit is None else min(by_fraction, limit)
