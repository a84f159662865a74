"""Score predictions against observed cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from perturbench.analysis.metrics.registry import resolve_metrics
from perturbench.analysis.profiles import Missing, Negative, Prediction, Reference
from perturbench.analysis.score_table import WHOLE_SPLIT, per_state, summarise
from perturbench.data.groups import Keys
from perturbench.errors import PerturbenchError, listing

if TYPE_CHECKING:
    from collections.abc import Sequence

    import anndata as ad

    from perturbench.analysis.metrics.definitions import Metric


@dataclass(frozen=True)
class Evaluation:
    """Scores of one or more models.

    Attributes
    ----------
    scores
        One row per model, metric and (state, perturbation): ``model``, ``metric``, ``perturbation``, one column per
        covariate, ``value``. NaN where the metric is undefined.
    summary
        One row per model, one column per metric: the mean over the perturbations for which it is defined.
    undefined
        Same rows and columns: the share of perturbations for which the metric is undefined. Means with different shares
        are not over the same perturbations.
    """

    scores: pd.DataFrame
    summary: pd.DataFrame
    undefined: pd.DataFrame

    def per_state(self) -> pd.DataFrame:
        """Return mean, standard error and number of perturbations of each model, metric and state."""
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
        Predicted cells of each model by its name, or one row per (state, perturbation) (pseudobulks); log-normalised
        like the reference. Genes are aligned by name. Predicted control cells are ignored: the observed ones are used
        for both sides.
    reference
        Observed cells of the perturbations to evaluate, and control cells of their states.
    perturbation_key
        Column of ``obs`` that holds the perturbation, in the predictions and the reference.
    covariate_keys
        Columns of ``obs`` whose values make up the state of a cell; may be empty.
    control
        Value of ``perturbation_key`` for control cells.
    delimiter
        Text that joins the single perturbations of a combination; ``None`` if there are no combinations.
    metrics
        Name of a profile such as ``default``, or names of metrics such as ``["rmse_average", "cosine_rank_logfc"]``.
    negative
        Whether negative predicted means are an error (``refuse``) or count as 0 (``clip``) where a metric takes their
        logarithm.
    missing
        Whether a (state, perturbation) without prediction is an error (``refuse``) or scored NaN (``report``).

    Returns
    -------
    Scores, and their means over perturbations.

    Raises
    ------
    PerturbenchError
        If genes, columns or perturbations are missing, or if predictions are not finite, or negative and refused.

    Examples
    --------
    >>> result = evaluate({"mine": mine}, observed, metrics=["rmse_average"])  # doctest: +SKIP
    >>> result.summary  # doctest: +SKIP
    """
    if isinstance(covariate_keys, str):
        raise PerturbenchError(f"covariate_keys is '{covariate_keys}'; pass a list: ['{covariate_keys}'].")
    if not isinstance(predictions, Mapping):
        raise PerturbenchError(f"predictions is a {type(predictions).__name__}; pass a dict of model name to AnnData.")
    for name, adata in {**predictions, "the reference": reference}.items():
        if adata.X is None:
            raise PerturbenchError(f"'{name}' has no X; store log-normalised expression there.")
    keys = Keys(perturbation_key, tuple(covariate_keys), control, delimiter)
    resolved = resolve_metrics(metrics)
    observed = Reference(reference, keys)
    tables = [
        score(Prediction.from_adata(adata, observed, name, negative, missing), observed, resolved)
        for name, adata in predictions.items()
    ]
    if not tables:
        raise PerturbenchError("no predictions given; pass a dict of model name to AnnData.")
    scores = pd.concat(tables, ignore_index=True)
    names = [metric.name for metric in resolved]
    undefined = summarise(scores.assign(value=scores["value"].isna().astype(float)), names)
    return Evaluation(scores, summarise(scores, names), undefined)


def score(prediction: Prediction, reference: Reference, metrics: Sequence[Metric]) -> pd.DataFrame:
    """Score one prediction.

    Parameters
    ----------
    prediction
        The predicted side.
    reference
        The observed side.
    metrics
        Metrics to compute.

    Returns
    -------
    Scores in long form, see :class:`Evaluation`. A metric of the whole split has one row, with perturbation ``(all)``.

    Raises
    ------
    PerturbenchError
        If a metric needs cells and the prediction has only means, or takes the logarithm of negative means.
    """
    if prediction.cells is None and (of_cells := [metric.name for metric in metrics if metric.needs == "cells"]):
        raise PerturbenchError(
            f"metrics {listing(of_cells)} need single cells, but '{prediction.name}' has only the mean of each pair; "
            "predict cells, or choose other metrics."
        )
    covariates = list(reference.keys.covariates)
    pairs = pd.DataFrame([state for state, _ in reference.pairs], columns=covariates, dtype=object)
    pairs.insert(0, "perturbation", [condition for _, condition in reference.pairs])
    whole_split = pd.DataFrame({name: [WHOLE_SPLIT] for name in ("perturbation", *covariates)})
    tables = []
    for metric in metrics:
        values = np.asarray(metric.function(reference, prediction), dtype=float)
        rows = pairs if values.ndim else whole_split
        tables.append(rows.assign(model=prediction.name, metric=metric.name, value=values))
    return pd.concat(tables, ignore_index=True)[["model", "metric", "perturbation", *covariates, "value"]]
