"""Assign cells to train, val and test."""

from __future__ import annotations

import anndata as ad
import pandas as pd

from perturbench.config.sections import DataConfig, SplitterConfig
from perturbench.provenance import KEY, fingerprint_frame, stamp


def assign_split(
    curated: ad.AnnData, data: DataConfig, splitter: SplitterConfig, task: str
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Split the cells, count what is in each part, and list what was checked."""
    from perturbench.data.groups import Groups
    from perturbench.data.splits import read_split, split_cells, split_checks, split_summary

    obs = curated.obs
    if splitter.method == "csv":
        split = read_split(splitter.path or "", obs, data.keys, strict=splitter.strict)
    else:
        split = split_cells(obs, data.keys, splitter.method, splitter, splitter.seed)
    table = split.rename_axis("cell").to_frame("split")
    table.attrs[KEY] = stamp(
        task=task,
        inputs={"obs": fingerprint_frame(obs[[data.keys.perturbation, *data.covariate_keys]])},
        parameters=splitter.model_dump_json(),
    )
    groups = Groups.from_obs(obs, data.keys)
    checks = split_checks(split, groups, method=splitter.method, strict=splitter.strict)
    return table, split_summary(split, groups), checks
