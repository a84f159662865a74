"""What paired tests allow to say: which model is best, and whether any beats the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perturbench.analysis.leaderboard import metric_names
from perturbench.analysis.metrics import available_metrics
from perturbench.errors import listing

if TYPE_CHECKING:
    import pandas as pd

#: Adjusted p-values below this are differences.
LEVEL = 0.05


@dataclass(frozen=True)
class Best:
    """The best of a metric.

    Attributes
    ----------
    model
        With the best mean, among those scored on most perturbations.
    alike
        The models that a paired test does not tell from it, and those it cannot compare; none if it is the only best.
    """

    model: str
    alike: tuple[str, ...]


def find_best(board: pd.DataFrame, comparisons: pd.DataFrame | None) -> dict[str, Best]:
    """Return the best model of each metric of a leaderboard that says which way is better.

    Without tests of a metric - one value of the whole split, too few perturbations - nothing is told apart.
    """
    known = available_metrics()
    found = {}
    for name in metric_names(board):
        scored = board[board[name].notna()]
        if name not in known or len(scored) < 2:
            continue
        scored = scored[scored[f"{name}_undefined"] == scored[f"{name}_undefined"].min()]
        best = scored[name].idxmin() if known[name].better == "lower" else scored[name].idxmax()
        model = board.at[best, "model"]
        worse = _told_apart(comparisons, name, model)
        others = board.loc[board[name].notna(), "model"]
        found[name] = Best(model, tuple(other for other in others if other != model and other not in worse))
    return found


def best_sentences(best: dict[str, Best]) -> list[str]:
    """Say which model is best on which metric."""
    sentences = []
    for name, entry in best.items():
        if entry.alike:
            more = "1 other cannot" if len(entry.alike) == 1 else f"{len(entry.alike)} others cannot"
            sentences.append(f"{name}: no model is best; {entry.model} has the best mean, but {more} be told from it.")
        else:
            sentences.append(f"{name}: {entry.model} is better than every other model.")
    return sentences


def baseline_sentences(tests: pd.DataFrame | None) -> list[str]:
    """Say what beats the baseline, by tests as :func:`perturbench.analysis.uncertainty.tests_against` returns them."""
    known = available_metrics()
    if tests is None or (tests := tests[tests["metric"].isin(known)]).empty:
        return []
    baseline = str(tests["other"].iloc[0]).removeprefix("anchor: ")
    sign = tests["metric"].map(lambda name: 1 if known[name].better == "higher" else -1)
    better = tests[(tests["adjusted"] < LEVEL) & (tests["difference"] * sign > 0)]
    if better.empty:
        return [f"Nothing beats the baseline: on no metric is a model better than {baseline}."]
    sentences = []
    for name, own in tests.groupby("metric", sort=False):
        winners = list(better.loc[better["metric"] == name, "model"])
        if winners:
            sentences.append(f"{name}: {len(winners)} of {len(own)} better than {baseline}: {listing(winners, 6)}.")
        else:
            sentences.append(f"{name}: nothing beats the baseline {baseline}.")
    return sentences


def _told_apart(comparisons: pd.DataFrame | None, metric: str, model: str) -> set[str]:
    """Return the models that differ from one on a metric."""
    if comparisons is None or comparisons.empty:
        return set()
    own = comparisons[(comparisons["metric"] == metric) & (comparisons["adjusted"] < LEVEL)]
    return set(own.loc[own["model"] == model, "other"]) | set(own.loc[own["other"] == model, "model"])
