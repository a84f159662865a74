"""What stages share: whether an artifact was made from the cells and split that are there now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anndata as ad
import pandas as pd

from perturbench.provenance import fingerprint_adata, fingerprint_frame


def current_inputs(prepared: ad.AnnData, split: pd.DataFrame) -> dict[str, str]:
    """Return the fingerprints of the prepared cells and the split."""
    return {"prepared": fingerprint_adata(prepared), "split": fingerprint_frame(split)}


def changed_inputs(made_by: Mapping[str, Any], current: Mapping[str, str]) -> list[str]:
    """Return the inputs that an artifact's stamp names and that are others now."""
    inputs = made_by.get("inputs", {})
    return [name for name, fingerprint in current.items() if name in inputs and inputs[name] != fingerprint]
