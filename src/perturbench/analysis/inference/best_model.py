"""What paired tests show: which model is best, and which models beat the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perturbench.analysis.metrics.registry import available_metrics
from perturbench.analysis.score_table import metric_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

#: Two models differ if the adjusted p-value of their test is below this.
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class BestModel:
    """The best model on a metric.

    Attributes
    ----------
    model
        Name of the model with the best mean, among the models that no other is significantly better than.
    contenders
        Names of the other models that may be the best, because no paired test shows one to be better than them. If it
        is empty, ``model`` is significantly better than all others.
    """

    model: str
    contenders: tuple[str, ...]


def find_best(board: pd.DataFrame, comparisons: pd.DataFrame | None) -> dict[str, BestModel]:
    """Return the best model on each metric of a leaderboard, by multiple comparisons with the best.

    A model is excluded if it is significantly worse than some other model. Its p-values are multiplied by the number of
    other models only, not by the number of pairs: the one error to avoid is to exclude the best model, which
    takes part in that many comparisons only (Hsu, Annals of Statistics 12:1136, 1984). Metrics without paired tests are
    left out: those of the whole split, those that are not registered, and all metrics if there is a single model.
    """
    known = available_metrics()
    tested = set() if comparisons is None else set(comparisons["metric"])
    found = {}
    for name in metric_names(board):
        scored = board[board[name].notna()]
        if name not in known or name not in tested or scored.empty:
            continue
        # Only means over the same number of perturbations are compared.
        scored = scored[scored[f"{name}_undefined"] == scored[f"{name}_undefined"].min()]
        assert comparisons is not None
        excluded = _worse_than_another(comparisons[comparisons["metric"] == name], scored["model"])
        remaining = scored[~scored["model"].isin(excluded)]
        if remaining.empty:  # models that lack different perturbations can each be worse than another
            remaining, excluded = scored, set()
        best = remaining[name].idxmin() if known[name].better == "lower" else remaining[name].idxmax()
        model = board.at[best, "model"]
        others = board.loc[board[name].notna(), "model"]
        found[name] = BestModel(model, tuple(other for other in others if other != model and other not in excluded))
    return found


def better_than_baseline(tests: pd.DataFrame | None, models: Sequence[str]) -> dict[str, list[str]]:
    """Return, for each metric with tests, the models that are significantly better than the baseline.

    Parameters
    ----------
    tests
        Paired tests, see :func:`perturbench.analysis.inference.uncertainty.compare_with_baseline`.
    models
        Names of the models, in the order to return them.
    """
    if tests is None:
        return {}
    known = available_metrics()
    better = tests[_differs(tests, tests["adjusted"], _direction(tests))]
    names = [name for name in dict.fromkeys(tests["metric"]) if name in known]
    winners = {name: set(better.loc[better["metric"] == name, "model"]) for name in names}
    return {name: [model for model in models if model in winners[name]] for name in names}


def _worse_than_another(tests: pd.DataFrame, comparable: pd.Series) -> set[str]:
    """Return the models that are significantly worse than one of the comparable models, from one metric's tests."""
    sign = _direction(tests)
    pvalues = tests["pvalue"] * (len({*tests["model"], *tests["other"]}) - 1)
    first = _differs(tests, pvalues, sign) & tests["model"].isin(comparable)
    second = _differs(tests, pvalues, -sign) & tests["other"].isin(comparable)
    return {*tests.loc[first, "other"], *tests.loc[second, "model"]}


def _direction(tests: pd.DataFrame) -> pd.Series:
    """Return 1 for each test of a metric for which higher is better, -1 for lower; missing for unknown metrics."""
    return tests["metric"].map(
        {name: 1 if metric.better == "higher" else -1 for name, metric in available_metrics().items()}
    )


def _differs(tests: pd.DataFrame, pvalues: pd.Series, sign: pd.Series) -> pd.Series:
    """Return whether ``model`` is significantly higher (sign 1) or lower (-1) than ``other`` in each test.

    Mean and ranks have to agree: a few extreme perturbations can pull the mean against the direction of the test.
    """
    return (pvalues < SIGNIFICANCE) & (tests["difference"] * sign > 0) & (tests["rank_biserial"] * sign > 0)
