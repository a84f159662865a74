"""The part of scGPT that makes cell embeddings: tokens in, a vector per cell out."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Values above are as good as this one (scGPT's ContinuousValueEncoder).
MAX_VALUE = 512.0


class GeneEncoder(nn.Module):
    """A learned vector per gene, normalised."""

    def __init__(self, n_tokens: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_tokens, width)
        self.enc_norm = nn.LayerNorm(width)

    def forward(self, genes: torch.Tensor) -> torch.Tensor:
        """Return ``(..., width)``."""
        return self.enc_norm(self.embedding(genes))


class ValueEncoder(nn.Module):
    """A vector per expression value, which is taken as a number and not as a category."""

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
    """Gene and value encoders, added, and a transformer with the norm after each block.

    Parameters carry the published names, so that the weights of a checkpoint fit as they are. Source: ``_encode`` of
    ``TransformerModel`` in https://github.com/bowang-lab/scGPT (``scgpt/model/model.py``), as its ``embed_data`` calls
    it: without batch labels, and without dropout, which is for training.

    Parameters
    ----------
    n_tokens
        Tokens of the vocabulary.
    width, n_heads, hidden, n_layers
        ``embsize``, ``nheads``, ``d_hid`` and ``nlayers`` of ``args.json``.
    """

    def __init__(self, n_tokens: int, width: int, n_heads: int, hidden: int, n_layers: int) -> None:
        super().__init__()
        self.width = width
        self.encoder = GeneEncoder(n_tokens, width)
        self.value_encoder = ValueEncoder(width)
        layer = nn.TransformerEncoderLayer(width, n_heads, hidden, dropout=0.0, batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, n_layers, enable_nested_tensor=False)

    def forward(self, genes: torch.Tensor, values: torch.Tensor, padding: torch.Tensor | None) -> torch.Tensor:
        """Return the output at the first token.

        Parameters
        ----------
        genes
            Tokens, ``(n_cells, n_tokens)``; the first is ``<cls>``.
        values
            Binned expression, ``(n_cells, n_tokens)``.
        padding
            True where there is no token, ``(n_cells, n_tokens)``; ``None`` if there is one everywhere.

        Returns
        -------
        ``(n_cells, width)``.
        """
        tokens = self.encoder(genes) + self.value_encoder(values)
        with _lean_attention():
            return self.transformer_encoder(tokens, src_key_padding_mask=padding)[:, 0]


@contextmanager
def _lean_attention() -> Iterator[None]:
    """Keep torch off its fused inference layer, which holds every attention matrix in memory at once."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
