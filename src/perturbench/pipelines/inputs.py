"""What stages share: the datamodule, and whether an artifact was made from the cells and split that are there now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anndata as ad
import pandas as pd

from perturbench.config import DataConfig, PredictionConfig, TrainerConfig
from perturbench.provenance import fingerprint_adata, fingerprint_frame

if TYPE_CHECKING:
    from perturbench.data import PerturbationDataModule


def current_inputs(prepared: ad.AnnData, split: pd.DataFrame) -> dict[str, str]:
    """Return the fingerprints of the prepared cells and the split."""
    return {"prepared": fingerprint_adata(prepared), "split": fingerprint_frame(split)}


def changed_inputs(made_by: Mapping[str, Any], current: Mapping[str, str]) -> list[str]:
    """Return the inputs that an artifact's stamp names and that are others now."""
    inputs = made_by.get("inputs", {})
    return [name for name, fingerprint in current.items() if name in inputs and inputs[name] != fingerprint]


def make_datamodule(
    prepared: ad.AnnData,
    split: pd.DataFrame,
    data: DataConfig,
    trainer: TrainerConfig,
    prediction: PredictionConfig,
    seed: int,
) -> PerturbationDataModule:
    """Return the datamodule that a stage trains or predicts with."""
    from perturbench.data import PerturbationDataModule

    return PerturbationDataModule(
        prepared,
        split["split"],
        data.keys,
        batch_size=trainer.batch_size,
        num_workers=trainer.num_workers,
        resident=trainer.resident,
        seed=seed,
        prediction_controls=prediction.controls,
        max_control_cells=prediction.max_control_cells,
        embedding_key=data.embedding_key,
    )
