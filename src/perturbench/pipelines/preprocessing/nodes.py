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
    """Embed the cells with scGPT; return the embedding by its key, or nothing if it is up to date.

    Other embeddings are computed with the prepared cells: they are fast, and need the split.
    """
    if embedding.kind != "scgpt":
        return {}
    from perturbench.preprocessing.embeddings import checkpoint_files, read_checkpoint, scgpt_embeddings

    key = embedding.obsm_key
    _require_free(curated, key)
    weights = {path.name: fingerprint_file(path) for path in checkpoint_files(embedding.checkpoint)}
    stamp = cell_embedding_stamp(curated, embedding, weights, task)
    if key in known_embeddings:
        before = Stamp.read(known_embeddings[key]().uns)
        changed = stamp.differences(before) if before else ["it has no readable stamp"]
        if not changed:
            logger.info("embedding '%s' is up to date", key)
            return {}
        logger.info("embedding '%s' is stale: %s", key, "; ".join(changed))
    values = scgpt_embeddings(curated, read_checkpoint(embedding.checkpoint), embedding)
    return {key: ad.AnnData(obs=curated.obs[[]], obsm={key: values}, uns={KEY: stamp.text()})}


def prepare_cells(
    curated: ad.AnnData,
    split: pd.DataFrame,
    data: DataConfig,
    preprocessing: PreprocessingConfig,
    task: str,
    embedding: EmbeddingConfig,
    embeddings: dict[str, Callable[[], ad.AnnData]],
) -> ad.AnnData:
    """Normalise the counts, select genes and add the embedding.

    ``split`` matters only where genes are selected, or components computed, on training cells.
    """
    from perturbench.data.labels import align_split
    from perturbench.preprocessing.preparation import fit_rows_of, prepare

    labels = align_split(split["split"], curated.obs_names)
    prepared = prepare(curated, data.keys, preprocessing, fit_rows=fit_rows_of(labels, preprocessing.fit_on))
    if embedding.kind is not None:
        prepared.obsm[embedding.obsm_key] = _embedding(prepared, labels == "train", embedding, embeddings)
    origin = Stamp.read(curated.uns) or Stamp.make(task)
    inputs = {**origin.inputs, "curated cells": origin.fingerprint(), **embedding_input(prepared, data.embedding_key)}
    if preprocessing.fit_on == "train" or embedding.kind == "pca":
        inputs["split"] = fingerprint_frame(split)
    settings = {"preprocessing": preprocessing, "keys": asdict(data.keys)}
    prepared.uns[KEY] = Stamp.make(task, inputs=inputs, settings=settings).text()
    return prepared


def _require_free(adata: ad.AnnData, key: str) -> None:
    if key in adata.obsm:
        raise PerturbenchError(
            f"embedding.key '{key}' is already in obsm of the source; choose another key, or set embedding.kind to "
            "null to use the embedding of the source."
        )


def _embedding(
    prepared: ad.AnnData,
    is_training: np.ndarray,
    embedding: EmbeddingConfig,
    embeddings: dict[str, Callable[[], ad.AnnData]],
) -> np.ndarray:
    """Return the embedding of the prepared cells: principal components, or the stored one of scGPT."""
    if embedding.kind != "pca":
        return _stored_embedding(prepared.obs_names, embeddings, embedding.obsm_key)
    from perturbench.preprocessing.embeddings import pca_embeddings

    _require_free(prepared, embedding.obsm_key)
    return pca_embeddings(prepared.X, np.flatnonzero(is_training), embedding.n_components, embedding.seed)


def _stored_embedding(cells: pd.Index, embeddings: dict[str, Callable[[], ad.AnnData]], key: str) -> np.ndarray:
    found = embeddings[key]() if key in embeddings else None
    if found is None or not found.obs_names.equals(cells):
        raise PerturbenchError(
            f"embedding '{key}' of these cells does not exist yet; make it with kedro run --pipeline=preprocessing"
        )
    return found.obsm[key]
