"""Normalise counts, select genes, and embed cells."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict

import anndata as ad
import numpy as np
import pandas as pd

from perturbench.config.sections import DataConfig, EmbeddingConfig, PreprocessingConfig
from perturbench.errors import PerturbenchError
from perturbench.pipelines.stamps import cell_embedding_stamp, embedding_input
from perturbench.provenance import KEY, Stamp, fingerprint_file, fingerprint_frame

logger = logging.getLogger(__name__)


def embed_cells(
    curated: ad.AnnData, known_embeddings: dict[str, Callable[[], ad.AnnData]], embedding: EmbeddingConfig, task: str
) -> dict[str, ad.AnnData]:
    """Embed the cells; return the embedding by its key, or nothing if it is up to date or ``kind`` is ``None``."""
    if embedding.kind is None:
        return {}
    from perturbench.preprocessing.embeddings import checkpoint_files, read_checkpoint, scgpt_embeddings

    _require_free(curated, embedding.key)
    weights = {path.name: fingerprint_file(path) for path in checkpoint_files(embedding.checkpoint)}
    stamp = cell_embedding_stamp(curated, embedding, weights, task)
    if embedding.key in known_embeddings:
        before = Stamp.read(known_embeddings[embedding.key]().uns)
        changed = stamp.differences(before) if before else ["it has no readable stamp"]
        if not changed:
            logger.info("embedding '%s' is up to date", embedding.key)
            return {}
        logger.info("embedding '%s' is stale: %s", embedding.key, "; ".join(changed))
    values = scgpt_embeddings(curated, read_checkpoint(embedding.checkpoint), embedding)
    return {embedding.key: ad.AnnData(obs=curated.obs[[]], obsm={embedding.key: values}, uns={KEY: stamp.text()})}


def prepare_cells(
    curated: ad.AnnData,
    split: pd.DataFrame,
    data: DataConfig,
    preprocessing: PreprocessingConfig,
    task: str,
    embedding: EmbeddingConfig,
    embeddings: dict[str, Callable[[], ad.AnnData]],
) -> ad.AnnData:
    """Normalise the counts and select genes; ``split`` matters only where genes are selected on training cells."""
    from perturbench.data.labels import align_split
    from perturbench.preprocessing.preparation import fit_rows_of, prepare

    labels = align_split(split["split"], curated.obs_names)
    prepared = prepare(curated, data.keys, preprocessing, fit_rows=fit_rows_of(labels, preprocessing.fit_on))
    if embedding.kind is not None:
        prepared.obsm[embedding.key] = _embedding_of(prepared.obs_names, embeddings, embedding.key)
    origin = Stamp.read(curated.uns) or Stamp.make(task)
    inputs = {**origin.inputs, "curated cells": origin.fingerprint(), **embedding_input(prepared, data.embedding_key)}
    if preprocessing.fit_on == "train":
        inputs["split"] = fingerprint_frame(split)
    settings = {"preprocessing": preprocessing, "keys": asdict(data.keys)}
    prepared.uns[KEY] = Stamp.make(task, inputs=inputs, settings=settings).text()
    return prepared


def _require_free(curated: ad.AnnData, key: str) -> None:
    if key in curated.obsm:
        raise PerturbenchError(
            f"embedding.key '{key}' is already in obsm of the source; choose another key, or set embedding.kind to "
            "null to use the embedding of the source."
        )


def _embedding_of(cells: pd.Index, embeddings: dict[str, Callable[[], ad.AnnData]], key: str) -> np.ndarray:
    found = embeddings[key]() if key in embeddings else None
    if found is None or not found.obs_names.equals(cells):
        raise PerturbenchError(
            f"embedding '{key}' of these cells does not exist yet; make it with kedro run --pipeline=preprocessing"
        )
    return found.obsm[key]
