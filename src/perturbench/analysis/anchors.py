"""Anchors: what a score would be without a model, and what it could be at best."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from perturbench.analysis.evaluation import score
from perturbench.analysis.metrics.registry import available_metrics
from perturbench.analysis.profiles import Prediction, Reference
from perturbench.data.groups import Groups
from perturbench.data.pseudobulk import Pseudobulk

if TYPE_CHECKING:
    from collections.abc import Sequence

    import anndata as ad

    from perturbench.analysis.metrics.registry import Metric
    from perturbench.data.groups import Keys

NULL, CEILING = "mean_response", "technical_duplicate"
ANCHORS = ("control", NULL, "additive", CEILING)


def anchor_scores(
    evaluated: ad.AnnData, training: ad.AnnData, keys: Keys, metrics: Sequence[Metric], seed: int = 0
) -> pd.DataFrame:
    """Score the anchors of a split.

    Parameters
    ----------
    evaluated
        Observed cells of the perturbations to evaluate, and the control cells of their states.
    training
        Training cells, perturbed and controls.
    keys
        The columns of ``obs``.
    metrics
        What to compute; those that need cells are left out for the anchors that are means.
    seed
        Of the halves of the technical duplicate.

    Returns
    -------
    Scores in long form, model one of: ``control`` (nothing happens), ``mean_response`` (the mean training effect of the
    state happens), ``additive`` (the single effects of training add up; only where combinations are evaluated) and
    ``technical_duplicate`` (a random half of the observed cells predicts the other half).
    """
    reference = Reference(evaluated, keys)
    by_means = [metric for metric in metrics if metric.needs == "means"]
    means = {"control": reference.control_means, **training_anchors(training, keys, reference)}
    tables = [
        score(Prediction(name, reference, values, negative="clip"), reference, by_means)
        for name, values in means.items()
    ]
    if (duplicate := _technical_duplicate(evaluated, keys, metrics, seed)) is not None:
        tables.append(duplicate)
    return pd.concat(tables, ignore_index=True)


def training_anchors(training: ad.AnnData, keys: Keys, reference: Reference) -> dict[str, np.ndarray]:
    """Return the predicted means of ``mean_response`` and, where combinations are evaluated, ``additive``.

    ``(n_pairs, n_genes)`` each. A combination with a single perturbation that training does not have alone in the state
    has no additive prediction: NaN.
    """
    pseudobulk = Pseudobulk.from_adata(training[:, reference.genes], Groups.from_obs(training.obs, keys))
    effects = pseudobulk.effects
    if not effects:
        return {}
    anchors = {NULL: reference.control_means + pseudobulk.mean_response([state for state, _ in reference.pairs])}

    singles = [keys.singles(condition) for _, condition in reference.pairs]
    if any(len(names) > 1 for names in singles):
        absent = np.full(len(reference.genes), np.nan)
        added = [
            sum(effects.get((state, name), absent) for name in names)
            for (state, _), names in zip(reference.pairs, singles, strict=True)
        ]
        anchors["additive"] = reference.control_means + np.array(added)
    return anchors


def normalise(scores: pd.DataFrame, anchors: pd.DataFrame) -> pd.DataFrame:
    """Put scores between the null and the ceiling: ``(m - null) / (ceiling - null)`` of the means over perturbations.

    Parameters
    ----------
    scores
        Long form, of models.
    anchors
        Long form, as :func:`anchor_scores` gives it.

    Returns
    -------
    One row per model, one column per metric: 0 is ``mean_response``, 1 is ``technical_duplicate``. NaN where the
    duplicate is not better than the null: with few cells per perturbation two halves of the data differ more from each
    other than from an average, and there is no scale to put a model on.
    """
    keys = [name for name in anchors.columns if name not in ("model", "seed", "metric", "value")]
    levels = anchors.pivot_table(index=["metric", *keys], columns="model", values="value").reindex(
        columns=[NULL, CEILING]
    )
    models = scores.pivot_table(index=["metric", *keys], columns="model", values="value", dropna=False)
    known = available_metrics()
    rows = {}
    for metric, own in models.groupby(level="metric"):
        scale = levels.reindex(own.index)
        higher = metric not in known or known[metric].better == "higher"
        for model, values in own.items():
            # Of the perturbations that all three have: means over different ones do not share a scale.
            common = pd.concat({"model": values, **dict(scale.items())}, axis=1).dropna().mean()
            gap = common[CEILING] - common[NULL]
            is_scale = gap > 0 if higher else gap < 0
            rows[model, metric] = (common["model"] - common[NULL]) / gap if is_scale else np.nan
    return pd.Series(rows, dtype=float).unstack() if rows else pd.DataFrame()


def _technical_duplicate(
    evaluated: ad.AnnData, keys: Keys, metrics: Sequence[Metric], seed: int
) -> pd.DataFrame | None:
    """Return the scores of one half of each pair's cells for the other; ``None`` if no pair has two cells."""
    groups = Groups.from_obs(evaluated.obs, keys)
    rng = np.random.default_rng(seed)
    first = groups.is_control.copy()
    second = np.zeros_like(first)
    by_name = np.argsort(evaluated.obs_names.to_numpy().astype(str), kind="stable")
    codes = groups.pair_codes(groups.pairs())
    for code in range(len(groups.pairs())):
        cells = rng.permutation(by_name[codes[by_name] == code])
        if len(cells) < 2:
            continue
        first[cells[: len(cells) // 2]] = True
        second[cells[len(cells) // 2 :]] = True
    if not second.any():
        return None
    half = Reference(evaluated[first], keys)
    return score(Prediction.from_adata(evaluated[second], half, CEILING, "clip"), half, metrics)
