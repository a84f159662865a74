"""What paired tests allow to say: which model is best, and whether any beats the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perturbench.analysis.metrics.registry import available_metrics
from perturbench.analysis.score_table import metric_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

#: Adjusted p-values below this are differences.
LEVEL = 0.05


@dataclass(frozen=True)
class Best:
    """The best of a metric.

    Attributes
    ----------
    model
        With the best mean, among those scored on most perturbations that are not out.
    alike
        The other models that may be the best: no paired test says that another is better. Without any, it is the best.
    """

    model: str
    alike: tuple[str, ...]


def find_best(board: pd.DataFrame, comparisons: pd.DataFrame | None) -> dict[str, Best]:
    """Return the best model of each metric of a leaderboard, by multiple comparisons with the best.

    A model is out if it is worse than another one, p times the number of others below ``LEVEL``. That each model is
    compared with the others alone suffices: an error is to put out the best one, and there is one best (Hsu, Annals of
    Statistics 12:1136, 1984). Metrics that models were not compared on are left out: values of the whole split, metrics
    that do not say which way is better, a single model.
    """
    known = available_metrics()
    tested = set() if comparisons is None else set(comparisons["metric"])
    found = {}
    for name in metric_names(board):
        scored = board[board[name].notna()]
        if name not in known or name not in tested or scored.empty:
            continue
        scored = scored[scored[f"{name}_undefined"] == scored[f"{name}_undefined"].min()]
        assert comparisons is not None
        out = _worse_than_another(comparisons[comparisons["metric"] == name], scored["model"])
        left = scored[~scored["model"].isin(out)]
        if left.empty:  # models that lack different perturbations can each be worse than another
            left, out = scored, set()
        best = left[name].idxmin() if known[name].better == "lower" else left[name].idxmax()
        model = board.at[best, "model"]
        others = board.loc[board[name].notna(), "model"]
        found[name] = Best(model, tuple(other for other in others if other != model and other not in out))
    return found


def better_than_baseline(tests: pd.DataFrame | None, models: Sequence[str]) -> dict[str, list[str]]:
    """Return the models that are better than the baseline on each metric that it was tested on.

    Parameters
    ----------
    tests
        See :func:`perturbench.analysis.inference.uncertainty.compare_with_baseline`.
    models
        In the order to return them in.
    """
    if tests is None:
        return {}
    known = available_metrics()
    better = tests[_differs(tests, tests["adjusted"], _direction(tests))]
    names = [name for name in dict.fromkeys(tests["metric"]) if name in known]
    winners = {name: set(better.loc[better["metric"] == name, "model"]) for name in names}
    return {name: [model for model in models if model in winners[name]] for name in names}


def _worse_than_another(tests: pd.DataFrame, contenders: pd.Series) -> set[str]:
    """Return the models that are worse than one of the contenders on the metric of some tests."""
    sign = _direction(tests)
    pvalues = tests["pvalue"] * (len({*tests["model"], *tests["other"]}) - 1)
    first = _differs(tests, pvalues, sign) & tests["model"].isin(contenders)
    second = _differs(tests, pvalues, -sign) & tests["other"].isin(contenders)
    return {*tests.loc[first, "other"], *tests.loc[second, "model"]}


def _direction(tests: pd.DataFrame) -> pd.Series:
    """Return 1 for tests of a metric of which more is better, -1 for others; missing for unknown metrics."""
    return tests["metric"].map(
        {name: 1 if metric.better == "higher" else -1 for name, metric in available_metrics().items()}
    )


def _differs(tests: pd.DataFrame, pvalues: pd.Series, sign: pd.Series) -> pd.Series:
    """Say of each test whether ``model`` is higher (sign 1) or lower (-1) than ``other``, in mean and in ranks."""
    return (pvalues < LEVEL) & (tests["difference"] * sign > 0) & (tests["rank_biserial"] * sign > 0)
