"""Fingerprints of parameters, files, tables and cells: equal contents have equal fingerprints."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    import anndata as ad
    import pandas as pd

_ROWS = 4096


def fingerprint_parameters(parameters: Any) -> str:
    """Return the fingerprint of JSON-like parameters; the order of keys does not matter."""
    text = json.dumps(parameters, sort_keys=True, default=jsonable)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def fingerprint_file(path: str | Path) -> str:
    """Return the sha256 of a file; for a folder, the sha256 of a list of its h5ad files and their sha256."""
    path = Path(path)
    if path.is_dir():
        lines = [f"{fingerprint_file(file)}  {file.name}\n" for file in sorted(path.glob("*.h5ad"))]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint_frame(frame: pd.DataFrame) -> str:
    """Return the fingerprint of a table's index, columns and values."""
    digest = hashlib.blake2b(digest_size=8)
    for name, column in [("index", frame.index.to_series()), *frame.items()]:
        digest.update(f"{name}\0".encode())
        digest.update("\0".join(column.astype(str)).encode())
    return digest.hexdigest()


def fingerprint_adata(adata: ad.AnnData) -> str:
    """Return the fingerprint of an AnnData's ``X``, ``obs`` and gene names, read in blocks of rows."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update(f"{adata.shape}\0".encode())
    digest.update("\0".join(adata.var_names).encode())
    digest.update(fingerprint_frame(adata.obs).encode())
    for start in range(0, adata.n_obs, _ROWS):
        block = adata.X[start : start + _ROWS]
        if sp.issparse(block):
            block = sp.csr_matrix(block)
            if not block.has_canonical_format:
                block = block.copy()  # it may share its arrays with the cells
                block.sum_duplicates()
            arrays = [block.indptr, block.indices, block.data]
        else:
            arrays = [np.ascontiguousarray(block)]
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def fingerprint_array(array: Any) -> str:
    """Return the fingerprint of a numeric array or table, as float32."""
    values = np.ascontiguousarray(array, dtype=np.float32)
    digest = hashlib.blake2b(f"{values.shape}\0".encode(), digest_size=8)
    digest.update(values.tobytes())
    return digest.hexdigest()


def jsonable(value: Any) -> Any:
    """Convert a value for ``json.dumps``: a typed section to plain values, anything else to text."""
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if dump else str(value)
