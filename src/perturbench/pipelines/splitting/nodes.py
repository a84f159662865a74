"""Assign cells to train, val and test."""

from __future__ import annotations

import logging

import anndata as ad
import pandas as pd

from perturbench.config.sections import DataConfig, SplitterConfig
from perturbench.provenance import KEY, Stamp, fingerprint_frame

logger = logging.getLogger(__name__)


def assign_split(
    curated: ad.AnnData, data: DataConfig, splitter: SplitterConfig, task: str
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the part of each cell, the counts of each part, and the checks that the split passed."""
    from perturbench.data.groups import Groups
    from perturbench.data.splits import split_checks, split_summary

    obs = curated.obs
    split = _split(obs, data, splitter)
    table = split.rename_axis("cell").to_frame("split")
    inputs = {"annotation of the cells": fingerprint_frame(obs[[data.keys.perturbation, *data.covariate_keys]])}
    table.attrs[KEY] = Stamp.make(task, inputs=inputs, settings={"splitter": splitter}).text()
    groups = Groups.from_obs(obs, data.keys)
    checks = split_checks(split, groups, method=splitter.method, strict=splitter.strict)
    return table, split_summary(split, groups), checks


def _split(obs: pd.DataFrame, data: DataConfig, splitter: SplitterConfig) -> pd.Series:
    """Read the split where the parameters say that there is one, or draw it."""
    from perturbench.data.splits import read_split, split_cells, split_of_column

    if splitter.method == "csv":
        logger.info("the split is read from '%s'", splitter.path)
        return read_split(splitter.path or "", obs, data.keys, strict=splitter.strict)
    if splitter.method == "column":
        logger.info("the split is column '%s' of the cells", splitter.column)
        return split_of_column(obs, splitter.column or "", data.keys, strict=splitter.strict)
    form = data.source.form
    if form and not form.splitter:
        logger.info("no split was published with the %s files of %s; one is drawn", data.source.kind, data.dataset)
    return split_cells(obs, data.keys, splitter.method, splitter, splitter.seed)
