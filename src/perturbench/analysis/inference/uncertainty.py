"""How certain a comparison is: intervals over perturbations, and paired tests between models."""

from __future__ import annotations

from itertools import combinations, product
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from perturbench.analysis.inference.signed_rank import signed_rank_pvalue
from perturbench.analysis.score_table import SCORE_COLUMNS, WHOLE_SPLIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Differences below this fraction of the largest value count as rounding.
ROUNDING = 1e-9


def bootstrap_intervals(
    scores: pd.DataFrame, *, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Return a percentile bootstrap interval for each model's mean over perturbations.

    Perturbations are drawn with replacement within each state; states with one perturbation form one stratum. Seeds of
    a model are averaged first, because they are not independent perturbations. A metric of the whole split, or of fewer
    than two perturbations, has no interval.

    Parameters
    ----------
    scores
        Long form: ``model``, ``metric``, ``perturbation``, covariates, ``value``.
    level
        Confidence level.
    n_resamples
        Number of bootstrap resamples.
    seed
        Seed of the random number generator.

    Returns
    -------
    ``model``, ``metric``, ``mean``, ``low``, ``high`` and ``n``, the number of perturbations with a value. The order of
    rows in ``scores`` does not matter.
    """
    states = [name for name in scores.columns if name not in SCORE_COLUMNS]
    rows = []
    for (model, metric), group in scores.groupby(["model", "metric"]):
        means = _average_seeds(group, states)
        # Every model gets the same seed, so that models with the same perturbations are resampled alike.
        rng = np.random.default_rng(seed)
        total, count = np.zeros(n_resamples), 0
        for values in _strata(means, states):
            total += values[rng.integers(0, len(values), (n_resamples, len(values)))].sum(axis=1)
            count += len(values)
        whole_split = (means["perturbation"] == WHOLE_SPLIT).any()
        bounds = [(1 - level) / 2, (1 + level) / 2]
        low, high = np.quantile(total / count, bounds) if count > 1 and not whole_split else (np.nan, np.nan)
        rows.append((model, metric, means["value"].mean(), low, high, count))
    return pd.DataFrame(rows, columns=["model", "metric", "mean", "low", "high", "n"])


def paired_tests(scores: pd.DataFrame) -> pd.DataFrame:
    """Compare every two models over the same perturbations by Wilcoxon's signed-rank test.

    Parameters
    ----------
    scores
        Long form, as in :func:`bootstrap_intervals`.

    Returns
    -------
    ``metric``, ``model``, ``other``, ``difference`` (mean of model - other), ``rank_biserial`` (direction of the test:
    1 if all values of the model are higher, -1 if all are lower), ``n``, ``pvalue`` and ``adjusted`` (p-values with
    Holm's correction over the pairs of models of a metric). NaN if two models share fewer than two perturbations.
    """
    return _compare(scores, lambda models: combinations(sorted(models), 2))


def compare_with_baseline(scores: pd.DataFrame, baseline: pd.DataFrame) -> pd.DataFrame:
    """Compare every model with a baseline over the same perturbations, as :func:`paired_tests` does.

    Parameters
    ----------
    scores
        Scores of the models, long form.
    baseline
        Scores of one anchor or model, long form.

    Returns
    -------
    As :func:`paired_tests`; ``other`` is ``anchor: <name of the baseline>``, and Holm's correction is over the models
    of a metric.
    """
    baseline = baseline.assign(model="anchor: " + baseline["model"].astype(str))
    metrics = set(scores["metric"]) & set(baseline["metric"])
    both = pd.concat([scores, baseline], ignore_index=True)
    names = set(baseline["model"])
    return _compare(both[both["metric"].isin(metrics)], lambda models: product(sorted(set(models) - names), names))


def _compare(scores: pd.DataFrame, pairs_of: Callable[[Iterable[str]], Iterable[tuple[str, str]]]) -> pd.DataFrame:
    """Test the pairs that ``pairs_of`` returns for the models of each metric."""
    states = [name for name in scores.columns if name not in SCORE_COLUMNS]
    rows = []
    for metric, of_metric in scores[scores["perturbation"] != WHOLE_SPLIT].groupby("metric"):
        wide = of_metric.pivot_table(index=["perturbation", *states], columns="model", values="value", aggfunc="mean")
        for model, other in pairs_of(wide.columns):
            difference = (wide[model] - wide[other]).dropna()
            # Rank metrics have few distinct values: rounding must not turn their ties into differences.
            if unit := ROUNDING * wide[[model, other]].abs().max(axis=None):
                difference = (difference / unit).round() * unit
            n = len(difference)
            effect = _rank_biserial(difference.to_numpy())
            pvalue = signed_rank_pvalue(difference.to_numpy()) if n > 1 else np.nan
            rows.append((metric, model, other, difference.mean(), effect, n, pvalue))
    table = pd.DataFrame(rows, columns=["metric", "model", "other", "difference", "rank_biserial", "n", "pvalue"])
    table["adjusted"] = np.nan
    for _, of_metric in table.groupby("metric"):
        table.loc[of_metric.index, "adjusted"] = _holm(of_metric["pvalue"].to_numpy(dtype=float))
    return table


def _rank_biserial(difference: np.ndarray) -> float:
    """Return the rank sum of positive minus that of negative differences, divided by all; 0 without any difference."""
    from scipy.stats import rankdata  # takes 0.4 s, and most runs do not need it

    changed = difference[difference != 0]
    ranks = rankdata(np.abs(changed))
    return float((np.sign(changed) * ranks).sum() / ranks.sum()) if len(changed) else 0.0


def _strata(scores: pd.DataFrame, states: list[str]) -> list[np.ndarray]:
    """Return the values of each state; all states with one perturbation share one stratum.

    If a single perturbation were its own stratum, it would never vary, and the interval would be too narrow.
    """
    if not states:
        return [scores["value"].to_numpy()]
    groups = [group["value"].to_numpy() for _, group in scores.groupby(states)]
    single = [values for values in groups if len(values) == 1]
    return [values for values in groups if len(values) > 1] + ([np.concatenate(single)] if single else [])


def _average_seeds(scores: pd.DataFrame, states: list[str]) -> pd.DataFrame:
    keys = ["perturbation", *states]
    return scores.groupby(keys, sort=True)["value"].mean().dropna().reset_index()


def _holm(pvalues: np.ndarray) -> np.ndarray:
    """Adjust p-values by Holm's step-down method; NaN stay NaN and do not count as tests."""
    adjusted = np.full(len(pvalues), np.nan)
    known = np.flatnonzero(~np.isnan(pvalues))
    order = known[np.argsort(pvalues[known], kind="stable")]
    steps = pvalues[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
