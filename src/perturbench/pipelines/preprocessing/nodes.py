"""Normalise counts and select genes."""

from __future__ import annotations

import json
from dataclasses import asdict

import anndata as ad
import pandas as pd

from perturbench.config import DataConfig, PreprocessingConfig
from perturbench.provenance import KEY, fingerprint_frame, fingerprint_parameters, stamp


def prepare_cells(
    curated: ad.AnnData, split: pd.DataFrame, data: DataConfig, preprocessing: PreprocessingConfig, task: str
) -> ad.AnnData:
    """Prepare the cells; ``split`` is used only where genes are selected on training cells."""
    from perturbench.analysis.preprocessing import fit_rows_of, prepare
    from perturbench.data.datamodule import align_split

    labels = align_split(split["split"], curated.obs_names)
    prepared = prepare(
        curated.to_memory() if curated.isbacked else curated,
        data.keys,
        fit_rows=fit_rows_of(labels, preprocessing.fit_on),
        **preprocessing.model_dump(exclude={"fit_on"}),
    )
    inputs = {"curated": fingerprint_parameters(curated.uns.get(KEY, {}))}
    if preprocessing.fit_on == "train":
        inputs["split"] = fingerprint_frame(split)
    raw = curated.uns.get(KEY, {}).get("inputs", {}).get("raw", "unknown")
    prepared.uns[KEY] = stamp(
        task=task,
        raw=raw,
        inputs=inputs,
        parameters=preprocessing.model_dump_json(),
        keys=json.dumps(asdict(data.keys)),
    )
    return prepared
