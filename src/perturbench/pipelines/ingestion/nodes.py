"""Fetch the raw data and bring it into the standard form."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anndata as ad

from perturbench import __version__
from perturbench.config.sections import DataConfig
from perturbench.files import size_of
from perturbench.pipelines.stamps import data_settings
from perturbench.provenance import KEY, Stamp, fingerprint_file

logger = logging.getLogger(__name__)


def fetch(data: DataConfig, task: str) -> dict[str, Any]:
    """Download or simulate the raw file if it is missing; return its path, size and sha256.

    A file whose sha256 is not the one that the task names causes a warning.
    """
    path, files = _obtain(data)
    sha256 = fingerprint_file(path)
    if data.source.sha256 not in (None, sha256):
        logger.warning(
            "'%s' is not the file that task '%s' was made for: sha256 %s, expected %s",
            path,
            task,
            sha256,
            data.source.sha256,
        )
    facts = {"dataset": data.dataset, "kind": data.source.kind, "path": str(path), "bytes": size_of(path)}
    return {"version": __version__, "task": task, **facts, "sha256": sha256, "files": files}


def _obtain(data: DataConfig) -> tuple[Path, list[dict[str, Any]]]:
    """Return the path of the raw h5ad, and a record of each file that it was downloaded from."""
    from perturbench.data.sources.raw import obtain
    from perturbench.data.sources.remote import fetch_all

    source, form = data.source, data.source.form
    if form is None:
        kind = "simulation" if source.kind == "simulation" else "file"
        return obtain(kind, source.path, source.simulation.model_dump(), source.how_to_get), []
    accept = source.mismatch == "accept"
    path, records = fetch_all(form.remote_files, data.folder, form.read, form.conversion, accept=accept)
    return path.resolve(), [asdict(record) for record in records]


def curate(raw: dict[str, Any], data: DataConfig, task: str) -> ad.AnnData:
    """Read the raw counts and bring names, columns and counts into the standard form."""
    from perturbench.data.curation import curate_file

    curated = curate_file(raw["path"], data.layouts, data.keys, layout=data.layout, min_controls=data.min_controls)
    curated.uns[KEY] = Stamp.make(
        task, inputs={"raw data": raw["sha256"]}, settings={"data": data_settings(data)}
    ).text()
    return curated


def describe(curated: ad.AnnData, raw: dict[str, Any], data: DataConfig, title: str) -> dict[str, Any]:
    """Return the data card: a description of the curated cells, their source, and how to cite them."""
    from perturbench.data.data_card import data_card

    about = {
        "dataset": data.dataset,
        "title": title,
        "citation": data.card.citation,
        "url": data.card.url,
        "licence": data.licence,
        "published cells": data.card.cells,
        "published perturbations": data.card.perturbations,
        "source kind": data.source.kind if data.source.form or data.source.kind == "simulation" else "file",
        "source": raw["path"],
        "source sha256": raw["sha256"],
    }
    return data_card(curated, data.keys, about)
