"""The datamodule that training, search and prediction share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import pandas as pd

from perturbench.config.sections import DataConfig, PredictionConfig, TrainerConfig

if TYPE_CHECKING:
    from perturbench.data import PerturbationDataModule


def make_datamodule(
    prepared: ad.AnnData,
    split: pd.DataFrame,
    data: DataConfig,
    trainer: TrainerConfig,
    prediction: PredictionConfig,
    seed: int,
) -> PerturbationDataModule:
    """Return the datamodule of prepared cells and their split, as the parameters configure it."""
    from perturbench.data import PerturbationDataModule

    return PerturbationDataModule(
        prepared,
        split["split"],
        data.keys,
        batch_size=trainer.batch_size,
        num_workers=trainer.num_workers,
        preload_to_device=trainer.preload_to_device,
        train_on_controls=trainer.train_on_controls,
        seed=seed,
        prediction_controls=prediction.controls,
        max_control_cells=prediction.max_control_cells,
        embedding_key=data.embedding_key,
    )
