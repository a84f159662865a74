"""Draw a few predicted perturbations in detail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import plotly.graph_objects as go

from perturbench.analysis.score_table import WHOLE_SPLIT, tables_by_model
from perturbench.config.sections import DataConfig, EvaluationConfig, PredictionConfig, ReportingConfig
from perturbench.pipelines.metrics import configured_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perturbench.analysis.metrics.registry import Metric


def plot_example_pairs(
    prepared: ad.AnnData,
    split: pd.DataFrame,
    predictions: dict[str, Callable[[], ad.AnnData]],
    scores: dict[str, Callable[[], pd.DataFrame]],
    evaluation_log: pd.DataFrame,
    leaderboard: pd.DataFrame,
    data: DataConfig,
    prediction: PredictionConfig,
    evaluation: EvaluationConfig,
    reporting: ReportingConfig,
) -> go.Figure:
    """Draw the cells and the genes of a few pairs, as the best model with predicted cells predicts them."""
    from perturbench.analysis.examples import choose_pairs, make_examples
    from perturbench.analysis.figures import plot_examples

    with _closing(prepared):
        rows = _evaluated_rows(prepared, split, data, prediction)
        for names in tables_by_model(predictions, evaluation_log, list(leaderboard["model"])).values():
            table = scores[names[0]]()
            metric = _first_of_pairs(configured_metrics(evaluation), table)
            choices = choose_pairs(table, metric, reporting.examples) if metric else []
            with _closing(predictions[names[0]]()) as predicted:
                examples = make_examples(prepared, rows, predicted, choices, data.keys, reporting.embedding)
            if examples:
                return plot_examples(examples, names[0], metric, reporting.embedding)
    return plot_examples([])


def _evaluated_rows(
    prepared: ad.AnnData, split: pd.DataFrame, data: DataConfig, prediction: PredictionConfig
) -> np.ndarray:
    """Return the rows of the evaluated cells and of their controls."""
    from perturbench.data.groups import Groups
    from perturbench.data.labels import align_split, evaluation_rows

    labels = align_split(split["split"], prepared.obs_names)
    return evaluation_rows(labels, Groups.from_obs(prepared.obs, data.keys), prediction.part, prediction.controls)


def _first_of_pairs(metrics: Sequence[Metric], scores: pd.DataFrame) -> Metric | None:
    """Return the first metric that has a value for some pair; ``None`` if there is none."""
    of_pairs = scores[(scores["perturbation"] != WHOLE_SPLIT) & scores["value"].notna()]
    return next((metric for metric in metrics if (of_pairs["metric"] == metric.name).any()), None)


@contextmanager
def _closing(adata: ad.AnnData) -> Iterator[ad.AnnData]:
    """Close the file behind cells that are not in memory."""
    try:
        yield adata
    finally:
        if adata.isbacked:
            adata.file.close()
