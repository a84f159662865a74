"""Checks of a split: leaks, empty parts, missing controls."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from perturbench.data.groups import pair_name
from perturbench.data.labels import PARTS
from perturbench.data.splits.holding_out import partners_of
from perturbench.data.splits.parts import SplitCounts
from perturbench.data.splits.selecting import pairs_by_state
from perturbench.errors import PerturbenchError, listing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perturbench.data.groups import Groups, Pair

logger = logging.getLogger(__name__)
PASSED, REPORTED, REFUSED = "passed", "reported", "refused"


@dataclass(frozen=True)
class Finding:
    """What one check found: how many of what, and a message unless it passed."""

    check: str
    found: str
    message: str = ""
    refused: bool = True

    @property
    def result(self) -> str:
        """``passed``, ``reported`` or ``refused``."""
        if not self.message:
            return PASSED
        return REFUSED if self.refused else REPORTED


def check_split(split: pd.Series, groups: Groups, *, method: str = "csv", strict: bool = False) -> None:
    """Raise on an empty part, a leak, or a part with a state without controls.

    Parameters
    ----------
    split
        Label of each cell; missing where it is not used.
    groups
        Codes of the same cells.
    method
        What drew the split: ``unseen`` and ``combine_inverse`` promise other things than the others.
    strict
        Refuse held-out combinations of perturbations that training never saw; else warn.

    Raises
    ------
    PerturbenchError
        Naming the part, the pairs and the counts.
    """
    for finding in _findings(SplitCounts.of(split, groups), method, strict):
        if finding.result == REFUSED:
            raise PerturbenchError(finding.message)
        if finding.result == REPORTED:
            logger.warning(finding.message)


def split_checks(split: pd.Series, groups: Groups, *, method: str = "csv", strict: bool = False) -> pd.DataFrame:
    """Return the result of every check of :func:`check_split`, which has the same parameters.

    Returns
    -------
    One row per check: what is promised, whether it ``passed``, was ``reported`` or ``refused``, and what was found.
    """
    findings = _findings(SplitCounts.of(split, groups), method, strict)
    return pd.DataFrame([{"check": each.check, "result": each.result, "found": each.found} for each in findings])


def _findings(counts: SplitCounts, method: str, strict: bool) -> Iterator[Finding]:
    yield _no_empty_part(counts)
    yield _no_shared_pair(counts)
    yield _known_states(counts)
    if method == "unseen":
        yield _unseen_perturbations(counts)
    else:
        yield _seen_perturbations(counts)
        yield _seen_alone(counts, strict)
    if method == "combine_inverse":
        yield _doubles_in_training(counts)
    yield _controls_everywhere(counts)


def _no_empty_part(counts: SplitCounts) -> Finding:
    found = ", ".join(f"{part}: {len(pairs)} pairs" for part, pairs in counts.pairs.items())
    message = next(
        (
            f"the {part} part of the split has no perturbed cells ({found}); "
            "hold out more or fewer perturbations (see the splitter section of the task)."
            for part, pairs in counts.pairs.items()
            if not pairs
        ),
        "",
    )
    return Finding("every part has perturbed cells", found, message)


def _no_shared_pair(counts: SplitCounts) -> Finding:
    shared = {
        (one, other): sorted(set(counts.pairs[one]) & set(counts.pairs[other])) for one, other in combinations(PARTS, 2)
    }
    message = next(
        (
            f"{len(pairs)} pairs are in both {one} and {other}: {listing(map(pair_name, pairs))}; "
            "a (state, perturbation) pair belongs to one part."
            for (one, other), pairs in shared.items()
            if pairs
        ),
        "",
    )
    found = f"{sum(map(len, shared.values()))} of {len(set().union(*counts.pairs.values()))} pairs"
    return Finding("no (state, perturbation) pair is in two parts", found, message)


def _known_states(counts: SplitCounts) -> Finding:
    trained = {state for state, _ in counts.pairs["train"]}
    return _of_heldout(
        counts,
        "training has other perturbations of every held-out state",
        [(part, pair) for part, pair in counts.heldout if pair[0] not in trained],
        "are of states that training never saw",
        "keep some of their perturbations in training",
    )


def _seen_perturbations(counts: SplitCounts) -> Finding:
    """Look at single perturbations, which training may have seen alone or in combinations."""
    singles = counts.keys.singles
    trained = {single for _, condition in counts.pairs["train"] for single in singles(condition)}
    return _of_heldout(
        counts,
        "training has every held-out single perturbation elsewhere",
        [(part, pair) for part, pair in counts.heldout if len(singles(pair[1])) == 1 and pair[1] not in trained],
        "have perturbations that training never saw",
        "keep each in training",
    )


def _seen_alone(counts: SplitCounts, strict: bool) -> Finding:
    singles = counts.keys.singles
    alone = {condition for _, condition in counts.pairs["train"] if len(singles(condition)) == 1}
    heldout = [pair for _, pair in counts.heldout if len(singles(pair[1])) > 1]
    unseen = {pair: sorted(set(singles(pair[1])) - alone) for pair in heldout}
    unseen = {pair: names for pair, names in unseen.items() if names}
    message = ""
    if unseen:
        named = listing(f"{pair_name(pair)} (unseen: {', '.join(names)})" for pair, names in sorted(unseen.items()))
        message = (
            f"{len(unseen)} of {len(heldout)} held-out combinations have perturbations that training never saw alone: "
            f"{named}" + ("; keep each in training, or set splitter.strict to false." if strict else "")
        )
    found = f"{len(unseen)} of {len(heldout)} held-out combinations have others"
    return Finding("training has the single perturbations of held-out combinations alone", found, message, strict)


def _unseen_perturbations(counts: SplitCounts) -> Finding:
    singles = counts.keys.singles
    known: set[str] = set()
    seen: list[tuple[str, Pair]] = []
    for part in PARTS:
        seen += [(part, pair) for pair in counts.pairs[part] if part != "train" and known.issuperset(singles(pair[1]))]
        known.update(single for _, condition in counts.pairs[part] for single in singles(condition))
    return _of_heldout(
        counts,
        "every held-out perturbation has a single one that training (for test: and val) never saw",
        seen,
        "have perturbations that earlier parts saw",
        "the unseen split promises that they did not: leave splitter.train_states empty",
    )


def _doubles_in_training(counts: SplitCounts) -> Finding:
    trained = pairs_by_state(counts.pairs["train"])
    lonely = []
    for part, (state, single) in counts.heldout:
        conditions = [single, *(condition for _, condition in trained.get(state, []))]
        if single not in partners_of(conditions, counts.keys):
            lonely.append((part, (state, single)))
    return _of_heldout(
        counts,
        "training has a double with every held-out single perturbation, and that double's other single",
        lonely,
        "have no double in training whose other single is there, too",
        "hold out fewer",
    )


def _controls_everywhere(counts: SplitCounts) -> Finding:
    fewest = []
    message = ""
    for part, has_cells, controls in zip(PARTS, counts.has_cells, counts.controls, strict=True):
        bare = np.flatnonzero(has_cells & (controls == 0))
        if len(bare) and not message:
            message = (
                f"no control cells in the {part} part of {len(bare)} states: "
                f"{listing(counts.states[code] for code in bare)}; every part needs controls of its states (at least 3 "
                "control cells per state, one for each part)."
            )
        fewest.append(f"{part}: {controls[has_cells].min() if has_cells.any() else 0}")
    found = f"fewest control cells of a state in {', '.join(fewest)}"
    return Finding("every part has control cells of its states", found, message)


def _of_heldout(counts: SplitCounts, check: str, wrong: list[tuple[str, Pair]], what: str, fix: str) -> Finding:
    """Return the finding of a check of held-out pairs, given those that do not pass."""
    message = ""
    if wrong:
        part = wrong[0][0]
        own = sorted(pair for other, pair in wrong if other == part)
        message = f"{len(own)} {part} pairs {what}: {listing(map(pair_name, own))}; {fix}."
    return Finding(check, f"{len(wrong)} of {len(counts.heldout)} held-out pairs {what}", message)
