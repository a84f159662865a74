"""Write a template of the table of queries, for the user to edit."""

from __future__ import annotations

import anndata as ad
import pandas as pd

from perturbench.config.sections import DataConfig, PredictionConfig, QueriesConfig, TrainerConfig
from perturbench.pipelines.datamodule import make_datamodule


def write_template(
    prepared: ad.AnnData,
    split: pd.DataFrame,
    data: DataConfig,
    trainer: TrainerConfig,
    prediction: PredictionConfig,
    queries: QueriesConfig,
) -> pd.DataFrame:
    """Return a table of queries: perturbations and states that a model trained on the split can predict."""
    from perturbench.data.queries import make_template

    datamodule = make_datamodule(prepared, split, data, trainer, prediction, seed=0)
    rows = datamodule.evaluation_rows(prediction.part)
    return make_template(datamodule.groups, datamodule.context, rows, queries.template)
