"""The encoder of scGPT: it turns the tokens of a cell into an embedding."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Larger values are clipped to this one (``ContinuousValueEncoder`` of scGPT).
MAX_VALUE = 512.0


class GeneEncoder(nn.Module):
    """Learned embedding of each gene, followed by layer normalisation."""

    def __init__(self, n_tokens: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_tokens, width)
        self.enc_norm = nn.LayerNorm(width)

    def forward(self, genes: torch.Tensor) -> torch.Tensor:
        """Return ``(..., width)``."""
        return self.enc_norm(self.embedding(genes))


class ValueEncoder(nn.Module):
    """Embedding of an expression value, read as a number and not as a category."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(1, width)
        self.linear2 = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return ``(..., width)``."""
        values = values.clamp(max=MAX_VALUE).unsqueeze(-1)
        return self.norm(self.linear2(F.relu(self.linear1(values))))


class ScGPTEncoder(nn.Module):
    """Sum of gene and value embeddings, followed by a transformer with normalisation after each block.

    Layers have the published names, so that the weights of a checkpoint can be loaded. Source: ``_encode`` of
    ``TransformerModel`` in https://github.com/bowang-lab/scGPT (``scgpt/model/model.py``), as ``embed_data`` calls it:
    without batch labels and without dropout, which is used in training only.

    Parameters
    ----------
    n_tokens
        Number of tokens in the vocabulary.
    width, n_heads, hidden, n_layers
        Values of ``embsize``, ``nheads``, ``d_hid`` and ``nlayers`` in ``args.json``.
    """

    def __init__(self, n_tokens: int, width: int, n_heads: int, hidden: int, n_layers: int) -> None:
        super().__init__()
        self.width = width
        self.encoder = GeneEncoder(n_tokens, width)
        self.value_encoder = ValueEncoder(width)
        layer = nn.TransformerEncoderLayer(width, n_heads, hidden, dropout=0.0, batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, n_layers, enable_nested_tensor=False)

    def forward(self, genes: torch.Tensor, values: torch.Tensor, padding: torch.Tensor | None) -> torch.Tensor:
        """Return the embedding of each cell: the output at its first token.

        Parameters
        ----------
        genes
            Gene tokens, ``(n_cells, n_tokens)``; the first is ``<cls>``.
        values
            Binned expression, ``(n_cells, n_tokens)``.
        padding
            True at padding, ``(n_cells, n_tokens)``; ``None`` if there is no padding.

        Returns
        -------
        ``(n_cells, width)``.
        """
        tokens = self.encoder(genes) + self.value_encoder(values)
        with _memory_saving_attention():
            return self.transformer_encoder(tokens, src_key_padding_mask=padding)[:, 0]


@contextmanager
def _memory_saving_attention() -> Iterator[None]:
    """Disable the fused inference layer of torch, which keeps all attention matrices in memory at once."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
