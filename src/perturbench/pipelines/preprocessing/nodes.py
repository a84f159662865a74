"""Normalise counts, select genes, and embed cells."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict

import anndata as ad
import numpy as np
import pandas as pd

from perturbench.config.sections import DataConfig, EmbeddingConfig, PreprocessingConfig
from perturbench.errors import PerturbenchError
from perturbench.pipelines.inputs import embedding_input
from perturbench.provenance import (
    KEY,
    fingerprint_adata,
    fingerprint_file,
    fingerprint_frame,
    fingerprint_parameters,
    stamp,
)

logger = logging.getLogger(__name__)


def embed_cells(
    curated: ad.AnnData, known_embeddings: dict[str, Callable[[], ad.AnnData]], embedding: EmbeddingConfig, task: str
) -> dict[str, ad.AnnData]:
    """Embed the cells, as the partition of the embedding's key; nothing if none is asked for or it is up to date."""
    if embedding.kind is None:
        return {}
    from perturbench.preprocessing.embeddings import checkpoint_files, read_checkpoint, scgpt_embeddings

    if embedding.key in curated.obsm:
        raise PerturbenchError(
            f"embedding.key '{embedding.key}' is in the source's obsm already; choose another key, or leave out "
            "embedding.kind to use the source's."
        )
    weights = {path.name: fingerprint_file(path) for path in checkpoint_files(embedding.checkpoint)}
    inputs = {"curated": fingerprint_adata(curated), "checkpoint": fingerprint_parameters(weights)}
    made_by = stamp(task=task, inputs=inputs, parameters=fingerprint_parameters(embedding.result_fields()))
    if embedding.key in known_embeddings and known_embeddings[embedding.key]().uns.get(KEY) == made_by:
        logger.info("embedding '%s' is up to date", embedding.key)
        return {}
    values = scgpt_embeddings(curated, read_checkpoint(embedding.checkpoint), embedding)
    return {embedding.key: ad.AnnData(obs=curated.obs[[]], obsm={embedding.key: values}, uns={KEY: made_by})}


def prepare_cells(
    curated: ad.AnnData,
    split: pd.DataFrame,
    data: DataConfig,
    preprocessing: PreprocessingConfig,
    task: str,
    embedding: EmbeddingConfig,
    embeddings: dict[str, Callable[[], ad.AnnData]],
) -> ad.AnnData:
    """Prepare the cells; ``split`` is used only where genes are selected on training cells."""
    from perturbench.data.labels import align_split
    from perturbench.preprocessing.preparation import fit_rows_of, prepare

    labels = align_split(split["split"], curated.obs_names)
    prepared = prepare(curated, data.keys, preprocessing, fit_rows=fit_rows_of(labels, preprocessing.fit_on))
    if embedding.kind is not None:
        prepared.obsm[embedding.key] = _embedding_of(prepared.obs_names, embeddings, embedding.key)
    inputs = {"curated": fingerprint_parameters(curated.uns.get(KEY, {}))}
    inputs |= embedding_input(prepared, data.embedding_key)
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


def _embedding_of(cells: pd.Index, embeddings: dict[str, Callable[[], ad.AnnData]], key: str) -> np.ndarray:
    found = embeddings[key]() if key in embeddings else None
    if found is None or not found.obs_names.equals(cells):
        raise PerturbenchError(
            f"embedding '{key}' of these cells is not there yet; make it with kedro run --pipeline=preprocessing"
        )
    return found.obsm[key]
