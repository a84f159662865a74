"""Score predictions against observed cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from perturbench.analysis.metrics.registry import Metric, resolve_metrics
from perturbench.analysis.profiles import Missing, Negative, Prediction, Reference
from perturbench.analysis.score_table import WHOLE_SPLIT, per_state, summarise
from perturbench.data.groups import Keys
from perturbench.errors import PerturbenchError, listing

if TYPE_CHECKING:
    from collections.abc import Sequence

    import anndata as ad


@dataclass(frozen=True)
class Evaluation:
    """Scores of one or more models.

    Attributes
    ----------
    scores
        One row per model, metric and (state, perturbation): ``model``, ``metric``, ``perturbation``, the covariate
        columns, ``value``. NaN where the metric is undefined.
    summary
        One row per model, one column per metric: the mean over perturbations where defined.
    undefined
        The same shape: the share of perturbations without a value. A mean over few is not one over all.
    """

    scores: pd.DataFrame
    summary: pd.DataFrame
    undefined: pd.DataFrame

    def per_state(self) -> pd.DataFrame:
        """Return the mean, its standard error and the number of perturbations of each model, metric and state."""
        return per_state(self.scores)


def evaluate(
    predictions: Mapping[str, ad.AnnData],
    reference: ad.AnnData,
    *,
    perturbation_key: str = "condition",
    covariate_keys: Sequence[str] = ("cell_type",),
    control: str = "control",
    delimiter: str | None = "+",
    metrics: str | list[str] = "default",
    negative: Negative = "refuse",
    missing: Missing = "refuse",
) -> Evaluation:
    """Score predictions of perturbed cells against the observed ones.

    Parameters
    ----------
    predictions
        For each model its predicted cells, or one row per group (pseudobulk), log-normalised like the reference. Genes
        are aligned by name; control cells are ignored, the observed ones are used on both sides.
    reference
        Observed cells of the perturbations to evaluate, and control cells of their states.
    perturbation_key, covariate_keys, control, delimiter
        The columns of ``obs`` of both, and how perturbations are written.
    metrics
        A profile (``default``) or a list of names such as ``["rmse_average", "cosine_rank_logfc"]``.
    negative
        Whether mean predictions below 0 are refused by metrics that take their logarithm, or clipped to 0.
    missing
        Whether predictions without some (state, perturbation) pair are refused, or scored NaN there.

    Returns
    -------
    The scores and their summary.

    Raises
    ------
    PerturbenchError
        On missing genes, columns or perturbations, and on predictions that are not finite or (refused) negative.

    Examples
    --------
    >>> result = evaluate({"mine": mine}, observed, metrics=["rmse_average"])  # doctest: +SKIP
    >>> result.summary  # doctest: +SKIP
    """
    if isinstance(covariate_keys, str):
        raise PerturbenchError(f"covariate_keys is the text '{covariate_keys}'; pass a list: ['{covariate_keys}'].")
    if not isinstance(predictions, Mapping):
        raise PerturbenchError(f"predictions is a {type(predictions).__name__}; pass a dict of model name to AnnData.")
    for name, adata in {**predictions, "the reference": reference}.items():
        if adata.X is None:
            raise PerturbenchError(f"'{name}' has no X; log-normalised expression must be there.")
    keys = Keys(perturbation_key, tuple(covariate_keys), control, delimiter)
    chosen = resolve_metrics(metrics)
    observed = Reference(reference, keys)
    tables = [
        score(Prediction.from_adata(adata, observed, name, negative, missing), observed, chosen)
        for name, adata in predictions.items()
    ]
    if not tables:
        raise PerturbenchError("no predictions given; pass a dict of model name to AnnData.")
    scores = pd.concat(tables, ignore_index=True)
    names = [metric.name for metric in chosen]
    undefined = summarise(scores.assign(value=scores["value"].isna().astype(float)), names)
    return Evaluation(scores, summarise(scores, names), undefined)


def score(prediction: Prediction, reference: Reference, metrics: Sequence[Metric]) -> pd.DataFrame:
    """Score one prediction.

    Parameters
    ----------
    prediction
        What a model predicts.
    reference
        What was observed.
    metrics
        What to compute.

    Returns
    -------
    Scores in long form, see :class:`Evaluation`; a metric of the whole split has one row, perturbation ``(all)``.

    Raises
    ------
    PerturbenchError
        If a metric needs cells and only means are known, or the logarithm of negative means.
    """
    if prediction.cells is None and (lacking := [metric.name for metric in metrics if metric.needs == "cells"]):
        raise PerturbenchError(f"{listing(lacking)} need the cells of '{prediction.name}', only means are known.")
    covariates = list(reference.keys.covariates)
    pairs = pd.DataFrame([state for state, _ in reference.pairs], columns=covariates, dtype=object)
    pairs.insert(0, "perturbation", [condition for _, condition in reference.pairs])
    whole = pd.DataFrame({name: [WHOLE_SPLIT] for name in ("perturbation", *covariates)})
    tables = []
    for metric in metrics:
        values = np.asarray(metric.function(reference, prediction), dtype=float)
        tables.append((pairs if values.ndim else whole).assign(model=prediction.name, metric=metric.name, value=values))
    return pd.concat(tables, ignore_index=True)[["model", "metric", "perturbation", *covariates, "value"]]
