"""Score predictions against observed cells."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from perturbench.analysis.aggregation import GroupSums, blocks
from perturbench.analysis.metrics import Metric, rank_of_matches, resolve_metrics
from perturbench.data.groups import Groups, Keys, Pair, pair_name
from perturbench.errors import PerturbenchError, listing, require_choice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import anndata as ad

logger = logging.getLogger(__name__)
Negative = Literal["refuse", "clip"]
Missing = Literal["refuse", "report"]
SCORE_COLUMNS = ("model", "seed", "metric", "perturbation", "value")


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
    """

    scores: pd.DataFrame
    summary: pd.DataFrame


class Reference:
    """What was observed: the means of every perturbed group and of the controls of its state.

    Parameters
    ----------
    adata
        Log-normalised cells, ``(n_cells, n_genes)``, of the perturbations to evaluate and controls of their states.
    keys
        The columns of its ``obs``.

    Raises
    ------
    PerturbenchError
        If there is no perturbed cell, or a state has no control.
    """

    def __init__(self, adata: ad.AnnData, keys: Keys) -> None:
        if taken := sorted(set(keys.covariates) & set(SCORE_COLUMNS)):
            raise PerturbenchError(
                f"covariates {listing(taken)} are named like columns of the scores ({listing(SCORE_COLUMNS)}); "
                "rename them in obs."
            )
        groups = Groups.from_obs(adata.obs, keys)
        self.keys, self.genes = keys, adata.var_names
        self.pairs = groups.pairs()
        if not self.pairs:
            raise PerturbenchError("the reference has no perturbed cells; nothing can be evaluated.")
        states = sorted({state for state, _ in self.pairs})
        n_pairs = len(self.pairs)
        codes = groups.pair_codes(self.pairs)
        own = np.array([states.index(s) if s in states else -1 for s in groups.states])[groups.state_codes]
        codes = np.where(groups.is_control & (own >= 0), n_pairs + own, codes)
        sums = GroupSums(n_pairs + len(states), adata.n_vars)
        for rows, block in blocks(adata.X):
            sums.add(block, codes[rows])
        means = sums.means
        bare = [state for state, count in zip(states, sums.counts[n_pairs:], strict=True) if count == 0]
        if bare:
            raise PerturbenchError(
                f"the reference has no control cells ('{keys.control}') in: {listing(bare)}; add them, both sides of "
                "a log fold change use the observed controls."
            )
        if not np.isfinite(sums.sums).all():
            genes = self.genes[~np.isfinite(sums.sums).all(axis=0)]
            raise PerturbenchError(f"the reference has NaN or infinite values in {len(genes)} genes: {listing(genes)}.")
        self.state_of_pair = np.array([states.index(state) for state, _ in self.pairs])
        self.means = means[:n_pairs]
        self.control_means = means[n_pairs:][self.state_of_pair]


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
    keys = Keys(perturbation_key, tuple(covariate_keys), control, delimiter)
    chosen = resolve_metrics(metrics)
    observed = Reference(reference, keys)
    tables = [
        score_means(prediction_means(adata, observed, name, missing), observed, chosen, name, negative)
        for name, adata in predictions.items()
    ]
    if not tables:
        raise PerturbenchError("no predictions given; pass a dict of model name to AnnData.")
    scores = pd.concat(tables, ignore_index=True)
    return Evaluation(scores, summarise(scores, [metric.name for metric in chosen]))


def prediction_means(
    adata: ad.AnnData, reference: Reference, name: str = "prediction", missing: Missing = "refuse"
) -> np.ndarray:
    """Return the mean of each predicted group, in the order of the reference's pairs and genes.

    Parameters
    ----------
    adata
        Predicted cells or pseudobulk, ``(n_rows, n_genes)``; sparse, dense or backed.
    reference
        What was observed.
    name
        Of the model, for messages.
    missing
        Whether an absent pair is refused or left NaN.

    Returns
    -------
    ``(n_pairs, n_genes)`` float64.

    Raises
    ------
    PerturbenchError
        As :func:`evaluate`.
    """
    require_choice("missing", missing, ("refuse", "report"))
    columns = _gene_order(adata, reference, name)
    groups = Groups.from_obs(adata.obs, reference.keys)
    codes = groups.pair_codes(reference.pairs)
    sums = GroupSums(len(reference.pairs), len(reference.genes))
    for rows, block in blocks(adata.X):
        values = block[:, columns] if columns is not None else block
        _require_finite(values, codes[rows], reference, name)
        sums.add(values, codes[rows])
    absent = [pair for pair, count in zip(reference.pairs, sums.counts, strict=True) if count == 0]
    if absent:
        message = (
            f"'{name}' has no cells for {len(absent)} of {len(reference.pairs)} pairs: "
            f"{listing(map(pair_name, absent))}"
        )
        if missing == "refuse" or len(absent) == len(reference.pairs):
            raise PerturbenchError(f"{message}; predict them, or pass missing='report' to score the others.")
        logger.warning("%s; they are scored NaN.", message)
    if extra := set(groups.pairs()) - set(reference.pairs):
        logger.info("'%s' predicts %d pairs that are not evaluated.", name, len(extra))
    return sums.means


def score_means(
    means: np.ndarray,
    reference: Reference,
    metrics: Sequence[Metric],
    name: str,
    negative: Negative = "refuse",
) -> pd.DataFrame:
    """Score group means.

    Parameters
    ----------
    means
        Predicted means in the order of the reference's pairs, ``(n_pairs, n_genes)``; NaN rows are scored NaN.
    reference
        What was observed.
    metrics
        What to compute.
    name
        Value of the ``model`` column.
    negative
        As in :func:`evaluate`.

    Returns
    -------
    Scores in long form, see :class:`Evaluation`.
    """
    aggregated: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for metric in metrics:
        aggregation = metric.aggregation
        if aggregation.name not in aggregated:
            usable = _without_negative(means, reference, name, negative) if aggregation.needs_log else means
            aggregated[aggregation.name] = (
                aggregation.function(reference.means, reference.control_means),
                aggregation.function(usable, reference.control_means),
            )
    pairs = pd.DataFrame([state for state, _ in reference.pairs], columns=list(reference.keys.covariates), dtype=object)
    pairs.insert(0, "perturbation", [condition for _, condition in reference.pairs])
    tables = []
    for metric in metrics:
        observed, predicted = aggregated[metric.aggregation.name]
        values = _ranks(metric, observed, predicted, reference) if metric.rank else None
        if values is None:
            values = np.asarray(metric.comparison.rows(observed, predicted), dtype=float)
        tables.append(pairs.assign(model=name, metric=metric.name, value=values))
    columns = ["model", "metric", *pairs.columns, "value"]
    return pd.concat(tables, ignore_index=True)[columns]


def summarise(scores: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Return the mean over perturbations of each metric (columns) and model (rows); undefined values are left out."""
    table = scores.pivot_table(index="model", columns="metric", values="value", aggfunc="mean", dropna=False)
    return table.reindex(columns=list(metrics), index=list(dict.fromkeys(scores["model"])))


def _ranks(metric: Metric, observed: np.ndarray, predicted: np.ndarray, reference: Reference) -> np.ndarray:
    values = np.full(len(observed), np.nan)
    present = ~np.isnan(predicted).any(axis=1)
    for state in np.unique(reference.state_of_pair):
        here = np.flatnonzero((reference.state_of_pair == state) & present)
        if len(here):
            matrix = metric.comparison.matrix(observed[here], predicted[here])
            values[here] = rank_of_matches(matrix, metric.comparison.better)
    return values


def _gene_order(adata: ad.AnnData, reference: Reference, name: str) -> np.ndarray | None:
    """Return the positions of the reference's genes in a prediction; ``None`` if they are the same."""
    if adata.var_names.equals(reference.genes):
        return None
    if adata.var_names.has_duplicates:
        doubled = adata.var_names[adata.var_names.duplicated()]
        raise PerturbenchError(f"'{name}' has gene names that occur more than once: {listing(doubled)}.")
    positions = adata.var_names.get_indexer(reference.genes)
    if (positions < 0).any():
        absent = reference.genes[positions < 0]
        raise PerturbenchError(
            f"'{name}' lacks {len(absent)} of {len(reference.genes)} genes of the reference: {listing(absent)}; "
            "predict all of them."
        )
    if extra := adata.n_vars - len(reference.genes):
        logger.info("'%s' predicts %d genes that are not evaluated.", name, extra)
    return positions


def _require_finite(values: np.ndarray, codes: np.ndarray, reference: Reference, name: str) -> None:
    data = getattr(values, "data", values) if not isinstance(values, np.ndarray) else values
    if np.isfinite(data).all():
        return
    dense = values if isinstance(values, np.ndarray) else values.toarray()
    bad = ~np.isfinite(dense) & (codes >= 0)[:, None]
    if bad.any():
        first = codes[np.flatnonzero(bad.any(axis=1))[0]]
        raise PerturbenchError(
            f"'{name}' has {int(bad.sum())} predicted values that are NaN or infinite, "
            f"the first for {pair_name(reference.pairs[first])}; predictions must be finite."
        )


def _without_negative(means: np.ndarray, reference: Reference, name: str, negative: Negative) -> np.ndarray:
    require_choice("negative", negative, ("refuse", "clip"))
    below = means < 0
    if not below.any():
        return means
    first: Pair = reference.pairs[int(np.flatnonzero(below.any(axis=1))[0])]
    message = (
        f"'{name}' predicts {int(below.sum())} negative means of log-normalised expression, "
        f"the lowest {means[below].min():.3g}, the first for {pair_name(first)}"
    )
    if negative == "refuse":
        raise PerturbenchError(
            f"{message}; log fold changes need means of at least 0. Predict such, or pass negative='clip'."
        )
    logger.info("%s; clipped to 0 for log fold changes.", message)
    return np.maximum(means, 0.0)
