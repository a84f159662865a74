"""The expression matrix that all datasets share, in host memory or on a device."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch

from perturbench.data.encoding import require_embedding

if TYPE_CHECKING:
    import anndata as ad


#: Cells that go to a device at a time.
_ROWS = 4096


class CellMatrix:
    """The expression of all cells, held once and shared by the datasets over parts of them.

    Batches are gathered in the host's memory, or on the device that :meth:`place` chose, with the same values.
    """

    def __init__(self, adata: ad.AnnData, embedding_key: str | None = None) -> None:
        require_embedding(adata, embedding_key)
        x = adata.X
        self.x = x.tocsr() if sp.issparse(x) else np.asarray(x)
        self.ids = adata.obs_names.to_numpy()
        self.genes = list(adata.var_names)
        self.gene_array = adata.var_names.to_numpy()
        self.embeddings = None if embedding_key is None else np.asarray(adata.obsm[embedding_key], dtype=np.float32)
        self._placed: torch.Tensor | None = None
        self._placed_embeddings: torch.Tensor | None = None

    @property
    def device(self) -> torch.device | None:
        """The device that holds the matrix besides the host; ``None`` if there is none."""
        return None if self._placed is None else self._placed.device

    def place(self, device: torch.device | None) -> None:
        """Hold the whole matrix on a device as well, dense; ``None`` for the host alone."""
        if device == self.device:
            return
        self._placed = self._placed_embeddings = None
        if device is not None:
            placed = torch.empty(self.x.shape, dtype=torch.float32, device=device)
            for start in range(0, len(placed), _ROWS):
                block = placed[start : start + _ROWS]
                block.copy_(self.rows(torch.arange(start, start + len(block))))
            self._placed = placed
            if self.embeddings is not None:
                self._placed_embeddings = torch.from_numpy(self.embeddings).to(device)

    def fits(self, device: torch.device) -> bool:
        """Return whether the dense matrix would take at most half of a CUDA device's free memory."""
        return device == self.device or 2 * 4 * math.prod(self.x.shape) <= torch.cuda.mem_get_info(device)[0]

    def rows(self, rows: torch.Tensor | np.ndarray) -> torch.Tensor:
        """Return the expression of some cells, ``(n_rows, n_genes)`` float32, on the device that holds the matrix."""
        if self._placed is not None:
            return self._placed.index_select(0, torch.as_tensor(rows, device=self._placed.device))
        block = self.x[np.asarray(rows)]
        dense = block.toarray() if sp.issparse(block) else block
        return torch.from_numpy(np.ascontiguousarray(dense, dtype=np.float32))

    def embedding_rows(self, rows: torch.Tensor | np.ndarray) -> torch.Tensor | None:
        """Return the embeddings of some cells, ``(n_rows, n_embedding)``, if there are any."""
        if self._placed_embeddings is not None:
            return self._placed_embeddings.index_select(0, torch.as_tensor(rows, device=self._placed_embeddings.device))
        return None if self.embeddings is None else torch.from_numpy(self.embeddings[np.asarray(rows)])
