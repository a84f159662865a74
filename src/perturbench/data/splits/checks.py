"""Checks of a split for leaks, empty parts and missing controls."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from perturbench.data.groups import pair_name
from perturbench.data.labels import PARTS
from perturbench.data.splits.methods import partners_of
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
    """Result of one check.

    Attributes
    ----------
    check
        Property that the split should have.
    found
        What the check counted.
    message
        What is wrong; empty if the check passed.
    refused
        Whether a failed check refuses the split; otherwise it is only reported.
    """

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
    """Raise if a part is empty, a pair leaks between parts, or a state of a part has no control cells.

    Parameters
    ----------
    split
        Label of each cell; missing for unused cells.
    groups
        States and perturbations of the same cells.
    method
        Method that drew the split. Splits by ``unseen`` and ``combine_inverse`` have to pass other checks.
    strict
        Whether to refuse held-out combinations whose single perturbations are not all in training on their own;
        otherwise they are reported with a warning.

    Raises
    ------
    PerturbenchError
        If a check fails; the message names the part, the pairs and their number.
    """
    for finding in _findings(SplitCounts.from_split(split, groups), method, strict):
        if finding.result == REFUSED:
            raise PerturbenchError(finding.message)
        if finding.result == REPORTED:
            logger.warning(finding.message)


def split_checks(split: pd.Series, groups: Groups, *, method: str = "csv", strict: bool = False) -> pd.DataFrame:
    """Return the results of all checks of :func:`check_split`; the parameters are the same.

    Returns
    -------
    One row per check: the property that the split should have, the result (``passed``, ``reported`` or ``refused``),
    and what was found.
    """
    findings = _findings(SplitCounts.from_split(split, groups), method, strict)
    return pd.DataFrame(
        [{"check": finding.check, "result": finding.result, "found": finding.found} for finding in findings]
    )


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
            "put all cells of a (state, perturbation) pair into one part."
            for (one, other), pairs in shared.items()
            if pairs
        ),
        "",
    )
    found = f"{sum(map(len, shared.values()))} of {len(set().union(*counts.pairs.values()))} pairs"
    return Finding("no (state, perturbation) pair is in two parts", found, message)


def _known_states(counts: SplitCounts) -> Finding:
    trained = {state for state, _ in counts.pairs["train"]}
    return _heldout_finding(
        counts,
        "training has other perturbations of every held-out state",
        [(part, pair) for part, pair in counts.heldout if pair[0] not in trained],
        "are in states that training does not have",
        "keep some of their perturbations in training",
    )


def _seen_perturbations(counts: SplitCounts) -> Finding:
    """Check that training has every held-out single perturbation, on its own or in a combination."""
    singles = counts.keys.singles
    trained = {single for _, condition in counts.pairs["train"] for single in singles(condition)}
    return _heldout_finding(
        counts,
        "training has every held-out single perturbation in another state or combination",
        [(part, pair) for part, pair in counts.heldout if len(singles(pair[1])) == 1 and pair[1] not in trained],
        "have perturbations that training does not have",
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
            f"{len(unseen)} of {len(heldout)} held-out combinations have single perturbations that training does not "
            f"have on their own: {named}"
            + ("; keep each of them in training, or set splitter.strict to false." if strict else "")
        )
    found = f"{len(unseen)} of {len(heldout)} held-out combinations have single perturbations that training lacks"
    return Finding(
        "training has the single perturbations of held-out combinations on their own", found, message, strict
    )


def _unseen_perturbations(counts: SplitCounts) -> Finding:
    singles = counts.keys.singles
    known: set[str] = set()
    seen: list[tuple[str, Pair]] = []
    for part in PARTS:
        seen += [(part, pair) for pair in counts.pairs[part] if part != "train" and known.issuperset(singles(pair[1]))]
        known.update(single for _, condition in counts.pairs[part] for single in singles(condition))
    return _heldout_finding(
        counts,
        "every held-out perturbation contains a single one that training does not have, and for test neither has val",
        seen,
        "contain only perturbations that earlier parts have",
        "the unseen split requires a new one: leave splitter.train_states empty",
    )


def _doubles_in_training(counts: SplitCounts) -> Finding:
    trained = pairs_by_state(counts.pairs["train"])
    not_inferable = []
    for part, (state, single) in counts.heldout:
        conditions = [single, *(condition for _, condition in trained.get(state, []))]
        if single not in partners_of(conditions, counts.keys):
            not_inferable.append((part, (state, single)))
    return _heldout_finding(
        counts,
        "training has a double with every held-out single perturbation, and the other single of that double",
        not_inferable,
        "have no double in training whose other single is in training, too",
        "hold out fewer",
    )


def _controls_everywhere(counts: SplitCounts) -> Finding:
    fewest = []
    message = ""
    for part, has_cells, controls in zip(PARTS, counts.has_cells, counts.controls, strict=True):
        without = np.flatnonzero(has_cells & (controls == 0))
        if len(without) and not message:
            message = (
                f"no control cells in the {part} part of {len(without)} states: "
                f"{listing(counts.states[code] for code in without)}; every part needs control cells of its "
                "states (at least 3 control cells per state, one for each part)."
            )
        fewest.append(f"{part}: {controls[has_cells].min() if has_cells.any() else 0}")
    found = f"fewest control cells of a state in {', '.join(fewest)}"
    return Finding("every part has control cells of its states", found, message)


def _heldout_finding(counts: SplitCounts, check: str, wrong: list[tuple[str, Pair]], what: str, fix: str) -> Finding:
    """Return the finding of a check of held-out pairs, given the pairs that fail it; name those of the first part."""
    message = ""
    if wrong:
        part = wrong[0][0]
        pairs = sorted(pair for other, pair in wrong if other == part)
        message = f"{len(pairs)} {part} pairs {what}: {listing(map(pair_name, pairs))}; {fix}."
    return Finding(check, f"{len(wrong)} of {len(counts.heldout)} held-out pairs {what}", message)
