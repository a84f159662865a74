"""Assign cells to train, val and test."""

from __future__ import annotations

import anndata as ad
import pandas as pd

from perturbench.config.sections import DataConfig, SplitterConfig
from perturbench.provenance import KEY, Stamp, fingerprint_frame


def assign_split(
    curated: ad.AnnData, data: DataConfig, splitter: SplitterConfig, task: str
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the part of each cell, the counts of each part, and the checks that the split passed."""
    from perturbench.data.groups import Groups
    from perturbench.data.splits import read_split, split_cells, split_checks, split_summary

    obs = curated.obs
    if splitter.method == "csv":
        split = read_split(splitter.path or "", obs, data.keys, strict=splitter.strict)
    else:
        split = split_cells(obs, data.keys, splitter.method, splitter, splitter.seed)
    table = split.rename_axis("cell").to_frame("split")
    inputs = {"annotation of the cells": fingerprint_frame(obs[[data.keys.perturbation, *data.covariate_keys]])}
    table.attrs[KEY] = Stamp.make(task, inputs=inputs, settings={"splitter": splitter}).text()
    groups = Groups.from_obs(obs, data.keys)
    checks = split_checks(split, groups, method=splitter.method, strict=splitter.strict)
    return table, split_summary(split, groups), checks
