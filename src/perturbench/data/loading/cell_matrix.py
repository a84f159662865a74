"""The expression matrix that all datasets share, in main memory and optionally on a GPU."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch

from perturbench.data.encoding import require_embedding
from perturbench.data.sparse import row_slices

if TYPE_CHECKING:
    import anndata as ad


#: Cells that are copied to a device at a time.
_ROWS = 4096


class CellMatrix:
    """The expression of all cells, held in memory once and shared by the datasets of all parts.

    Batches are gathered in main memory, or on the device that :meth:`place` copied the matrix to. Their values are
    the same either way.
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
        """The device that holds a copy of the matrix; ``None`` if only main memory does."""
        return None if self._placed is None else self._placed.device

    def place(self, device: torch.device | None) -> None:
        """Copy the whole matrix to a device, as a dense tensor; ``None`` removes the copy."""
        if device == self.device:
            return
        self._placed = self._placed_embeddings = None
        if device is not None:
            placed = torch.empty(self.x.shape, dtype=torch.float32, device=device)
            for here in row_slices(len(placed), _ROWS):
                placed[here].copy_(self.rows(torch.arange(here.start, here.stop)))
            self._placed = placed
            if self.embeddings is not None:
                self._placed_embeddings = torch.from_numpy(self.embeddings).to(device)

    def fits(self, device: torch.device) -> bool:
        """Return whether the dense float32 matrix takes at most half of the free memory of a CUDA device."""
        # Half, because the model, its gradients and the batches need room as well.
        return device == self.device or 2 * 4 * math.prod(self.x.shape) <= torch.cuda.mem_get_info(device)[0]

    def rows(self, rows: torch.Tensor | np.ndarray) -> torch.Tensor:
        """Return the expression of the cells in ``rows``, ``(n_rows, n_genes)`` float32, on the matrix's device."""
        if self._placed is not None:
            return self._placed.index_select(0, torch.as_tensor(rows, device=self._placed.device))
        block = self.x[np.asarray(rows)]
        dense = block.toarray() if sp.issparse(block) else block
        return torch.from_numpy(np.ascontiguousarray(dense, dtype=np.float32))

    def embedding_rows(self, rows: torch.Tensor | np.ndarray) -> torch.Tensor | None:
        """Return the embeddings of the cells in ``rows``, ``(n_rows, n_embedding)``; ``None`` without embeddings."""
        if self._placed_embeddings is not None:
            return self._placed_embeddings.index_select(0, torch.as_tensor(rows, device=self._placed_embeddings.device))
        return None if self.embeddings is None else torch.from_numpy(self.embeddings[np.asarray(rows)])
