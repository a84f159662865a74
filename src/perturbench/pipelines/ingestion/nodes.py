"""Fetch the raw data and bring it into the standard form."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import anndata as ad

from perturbench.config import DataConfig
from perturbench.provenance import KEY, fingerprint_file, fingerprint_parameters, stamp

logger = logging.getLogger(__name__)


def fetch(data: DataConfig, task: str) -> dict[str, Any]:
    """Make sure that the raw file is there and is the right one; return what it is."""
    from perturbench.data.sources import obtain

    path = obtain(data.source.kind, data.source.path, data.source.simulation.model_dump(), data.source.how_to_get)
    sha256 = fingerprint_file(path)
    if data.source.sha256 not in (None, sha256):
        logger.warning(
            "'%s' is not the file that task '%s' was made for: sha256 %s, expected %s",
            path,
            task,
            sha256,
            data.source.sha256,
        )
    return stamp(task=task, dataset=data.dataset, path=str(path), bytes=Path(path).stat().st_size, sha256=sha256)


def curate(raw: dict[str, Any], data: DataConfig, task: str) -> ad.AnnData:
    """Read raw counts and bring names, columns and counts into the standard form."""
    from perturbench.data.curation import curate_file

    curated = curate_file(raw["path"], data.layouts, data.keys, layout=data.layout, min_controls=data.min_controls)
    curated.uns[KEY] = stamp(
        task=task,
        inputs={"raw": raw["sha256"]},
        parameters=fingerprint_parameters(data.model_dump(exclude={"source", "card"})),
    )
    return curated


def describe(curated: ad.AnnData, raw: dict[str, Any], data: DataConfig, title: str) -> dict[str, Any]:
    """Return the data card: what is in the curated cells, where they come from, and how to cite them."""
    from perturbench.data.card import data_card

    about = {"dataset": data.dataset, "title": title, **data.card.model_dump()}
    return data_card(curated, data.keys, about | {"source": raw["path"], "source sha256": raw["sha256"]})
