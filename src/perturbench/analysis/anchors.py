"""Anchors: reference lines of a leaderboard, from no model at all to the best that the data allows."""

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

    from perturbench.analysis.metrics.definitions import Metric
    from perturbench.data.groups import Keys

#: Anchors with the normalised values 0 and 1: a model should beat the first, and can hardly beat the second.
BASELINE, DUPLICATE = "mean_response", "technical_duplicate"


def anchor_scores(
    evaluated: ad.AnnData, training: ad.AnnData, keys: Keys, metrics: Sequence[Metric], seed: int = 0
) -> pd.DataFrame:
    """Score the anchors of a split.

    Parameters
    ----------
    evaluated
        Observed cells of the perturbations to evaluate, and control cells of their states.
    training
        Training cells, perturbed and controls.
    keys
        Columns of ``obs`` that hold the perturbation and the covariates.
    metrics
        Metrics to compute. Three anchors predict means only; for them, metrics of single cells are left out.
    seed
        Seed that draws the halves of the technical duplicate.

    Returns
    -------
    Scores in long form. ``model`` is the name of the anchor:

    - ``control`` predicts the controls of the state, hence no effect;
    - ``mean_response`` predicts the mean effect of all training perturbations in the state;
    - ``additive`` predicts the sum of single effects seen in training, if combinations are evaluated;
    - ``technical_duplicate`` predicts one random half of the observed cells by the other half.
    """
    reference = Reference(evaluated, keys)
    of_means = [metric for metric in metrics if metric.needs == "means"]
    means = {"control": reference.control_means, **training_anchors(training, keys, reference)}
    tables = [
        score(Prediction(name, reference, values, negative="clip"), reference, of_means)
        for name, values in means.items()
    ]
    if (duplicate := _technical_duplicate(evaluated, keys, metrics, seed)) is not None:
        tables.append(duplicate)
    return pd.concat(tables, ignore_index=True)


def training_anchors(training: ad.AnnData, keys: Keys, reference: Reference) -> dict[str, np.ndarray]:
    """Return the means that ``mean_response`` predicts and, if combinations are evaluated, ``additive``.

    Each is ``(n_pairs, n_genes)``. ``additive`` is NaN for a combination if training lacks one of its single
    perturbations in the state.
    """
    pseudobulk = Pseudobulk.from_adata(training[:, reference.genes], Groups.from_obs(training.obs, keys))
    effects = pseudobulk.effects
    if not effects:
        return {}
    anchors = {BASELINE: reference.control_means + pseudobulk.mean_response([state for state, _ in reference.pairs])}

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
    """Scale mean scores between the baseline (0) and the technical duplicate (1).

    ``(model - baseline) / (duplicate - baseline)``, each the mean over perturbations.

    Parameters
    ----------
    scores
        Scores of the models, long form.
    anchors
        Scores of the anchors, as :func:`anchor_scores` returns them.

    Returns
    -------
    One row per model, one column per metric. NaN where the duplicate is not better than the baseline: with few cells
    per perturbation, two halves of the data differ more from each other than from an average, and there is no scale.
    """
    keys = [name for name in anchors.columns if name not in ("model", "seed", "metric", "value")]
    levels = anchors.pivot_table(index=["metric", *keys], columns="model", values="value").reindex(
        columns=[BASELINE, DUPLICATE]
    )
    models = scores.pivot_table(index=["metric", *keys], columns="model", values="value", dropna=False)
    known = available_metrics()
    rows = {}
    for metric, by_pair in models.groupby(level="metric"):
        scale = levels.reindex(by_pair.index)
        higher = metric not in known or known[metric].better == "higher"
        for model, values in by_pair.items():
            # Only perturbations that all three have: means over different perturbations are not on one scale.
            common = pd.concat({"model": values, **dict(scale.items())}, axis=1).dropna().mean()
            gap = common[DUPLICATE] - common[BASELINE]
            is_scale = gap > 0 if higher else gap < 0
            rows[model, metric] = (common["model"] - common[BASELINE]) / gap if is_scale else np.nan
    return pd.Series(rows, dtype=float).unstack() if rows else pd.DataFrame()


def _technical_duplicate(
    evaluated: ad.AnnData, keys: Keys, metrics: Sequence[Metric], seed: int
) -> pd.DataFrame | None:
    """Score one half of each pair's cells as a prediction of the other half; ``None`` if no pair has two cells."""
    groups = Groups.from_obs(evaluated.obs, keys)
    rng = np.random.default_rng(seed)
    first = groups.is_control.copy()
    second = np.zeros_like(first)
    # Sorted by name first: the halves must not depend on the order of cells in the file.
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
    return score(Prediction.from_adata(evaluated[second], half, DUPLICATE, "clip"), half, metrics)
