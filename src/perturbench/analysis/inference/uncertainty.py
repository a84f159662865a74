"""How sure a comparison is: intervals over perturbations, and paired tests between models."""

from __future__ import annotations

from itertools import combinations, product
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from perturbench.analysis.inference.signed_rank import signed_rank_pvalue
from perturbench.analysis.score_table import WHOLE_SPLIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: A difference of this fraction of the values is rounding.
SAME = 1e-9
_NOT_STATE = ("model", "seed", "metric", "perturbation", "value")


def bootstrap_intervals(
    scores: pd.DataFrame, *, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Return percentile bootstrap intervals of each model's mean over perturbations.

    Perturbations are drawn with replacement within each state; states with one perturbation are drawn together. Seeds
    of a model are averaged first: they are not independent perturbations. There is no interval for a value of the
    whole split, or with fewer than two perturbations.

    Parameters
    ----------
    scores
        Long form: ``model``, ``metric``, ``perturbation``, covariates, ``value``.
    level
        Of confidence.
    n_resamples, seed
        How many resamples, and of which random numbers.

    Returns
    -------
    ``model``, ``metric``, ``mean``, ``low``, ``high``, ``n`` (perturbations with a value). The order of rows in
    ``scores`` does not matter.
    """
    states = [name for name in scores.columns if name not in _NOT_STATE]
    rows = []
    for (model, metric), own in scores.groupby(["model", "metric"]):
        own = _per_perturbation(own, states)
        rng = np.random.default_rng(seed)
        total, count = np.zeros(n_resamples), 0
        for values in _strata(own, states):
            total += values[rng.integers(0, len(values), (n_resamples, len(values)))].sum(axis=1)
            count += len(values)
        whole = (own["perturbation"] == WHOLE_SPLIT).any()
        bounds = [(1 - level) / 2, (1 + level) / 2]
        low, high = np.quantile(total / count, bounds) if count > 1 and not whole else (np.nan, np.nan)
        rows.append((model, metric, own["value"].mean(), low, high, count))
    return pd.DataFrame(rows, columns=["model", "metric", "mean", "low", "high", "n"])


def paired_tests(scores: pd.DataFrame) -> pd.DataFrame:
    """Compare every two models over the same perturbations, by Wilcoxon's signed-rank test.

    Parameters
    ----------
    scores
        Long form, as in :func:`bootstrap_intervals`.

    Returns
    -------
    ``metric``, ``model``, ``other``, ``difference`` (mean of model - other), ``rank_biserial`` (which way the test
    goes: 1 if the model's values are all higher, -1 if all lower), ``n``, ``pvalue`` and ``adjusted`` (Holm over the
    pairs of models of a metric). NaN with fewer than two perturbations that both have.
    """
    return _compare(scores, lambda models: combinations(sorted(models), 2))


def compare_with_baseline(scores: pd.DataFrame, baseline: pd.DataFrame) -> pd.DataFrame:
    """Compare every model with a baseline over the same perturbations, as :func:`paired_tests` does.

    Parameters
    ----------
    scores
        Long form, of models.
    baseline
        Long form, of one anchor or model; it is called ``anchor: <its name>``.

    Returns
    -------
    As :func:`paired_tests`, ``other`` is the baseline; Holm over the models of a metric.
    """
    baseline = baseline.assign(model="anchor: " + baseline["model"].astype(str))
    metrics = set(scores["metric"]) & set(baseline["metric"])
    both = pd.concat([scores, baseline], ignore_index=True)
    names = set(baseline["model"])
    return _compare(both[both["metric"].isin(metrics)], lambda models: product(sorted(set(models) - names), names))


def _compare(scores: pd.DataFrame, pairs_of: Callable[[Iterable[str]], Iterable[tuple[str, str]]]) -> pd.DataFrame:
    """Test the pairs of models that ``pairs_of`` makes of the models of each metric."""
    states = [name for name in scores.columns if name not in _NOT_STATE]
    rows = []
    for metric, own in scores[scores["perturbation"] != WHOLE_SPLIT].groupby("metric"):
        wide = own.pivot_table(index=["perturbation", *states], columns="model", values="value", aggfunc="mean")
        for model, other in pairs_of(wide.columns):
            difference = (wide[model] - wide[other]).dropna()
            if unit := SAME * wide[[model, other]].abs().max(axis=None):
                difference = (difference / unit).round() * unit
            n = len(difference)
            effect = _rank_biserial(difference.to_numpy())
            pvalue = signed_rank_pvalue(difference.to_numpy()) if n > 1 else np.nan
            rows.append((metric, model, other, difference.mean(), effect, n, pvalue))
    table = pd.DataFrame(rows, columns=["metric", "model", "other", "difference", "rank_biserial", "n", "pvalue"])
    table["adjusted"] = np.nan
    for _, own in table.groupby("metric"):
        table.loc[own.index, "adjusted"] = _holm(own["pvalue"].to_numpy(dtype=float))
    return table


def _rank_biserial(difference: np.ndarray) -> float:
    """Return the rank sum of the positive less that of the negative differences, as a share; 0 if there are none."""
    changed = difference[difference != 0]
    ranks = rankdata(np.abs(changed))
    return float((np.sign(changed) * ranks).sum() / ranks.sum()) if len(changed) else 0.0


def _strata(own: pd.DataFrame, states: list[str]) -> list[np.ndarray]:
    """Return the values of each state, those of states with one perturbation in one stratum."""
    groups = [group["value"].to_numpy() for _, group in own.groupby(states)] if states else [own["value"].to_numpy()]
    lone = [values for values in groups if len(values) == 1]
    return [values for values in groups if len(values) > 1] + ([np.concatenate(lone)] if lone else [])


def _per_perturbation(own: pd.DataFrame, states: list[str]) -> pd.DataFrame:
    keys = ["perturbation", *states]
    return own.groupby(keys, sort=True)["value"].mean().dropna().reset_index()


def _holm(pvalues: np.ndarray) -> np.ndarray:
    """Return p-values adjusted by Holm's step-down method; NaN are left out."""
    adjusted = np.full(len(pvalues), np.nan)
    known = np.flatnonzero(~np.isnan(pvalues))
    order = known[np.argsort(pvalues[known], kind="stable")]
    steps = pvalues[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
