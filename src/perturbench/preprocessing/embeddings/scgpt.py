"""Cell embeddings from a published scGPT checkpoint."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch
from torch.nn import functional as F
from tqdm import tqdm

from perturbench.data.sparse import row_slices
from perturbench.errors import PerturbenchError, listing
from perturbench.preprocessing.embeddings.settings import EmbeddingSettings
from perturbench.preprocessing.embeddings.tokens import Tokens, cell_seeds, tokenise

if TYPE_CHECKING:
    import anndata as ad

    from perturbench.preprocessing.embeddings.checkpoint import ScGPTCheckpoint

logger = logging.getLogger(__name__)
#: Cells that are read and tokenised at a time.
_CHUNK = 1024


def scgpt_embeddings(
    adata: ad.AnnData,
    checkpoint: ScGPTCheckpoint,
    settings: EmbeddingSettings | None = None,
    **changes: Any,
) -> np.ndarray:
    """Return scGPT's embedding of each cell: its output at ``<cls>``, scaled to length 1.

    Follows ``embed_data`` of https://github.com/bowang-lab/scGPT (``scgpt/tasks/cell_emb.py``; Cui et al. 2024,
    doi 10.1038/s41592-024-02201-0) with two differences. The embedding of a cell depends only on its own counts and
    name, not on the other cells or their order, and the arithmetic is float32 instead of mixed precision.

    Parameters
    ----------
    adata
        Raw counts of all genes, ``(n_cells, n_genes)``, in memory or backed by a file; read in chunks.
    checkpoint
        Pretrained scGPT model, see :func:`read_checkpoint`.
    settings
        How to embed the cells; the defaults of :class:`EmbeddingSettings` if not given.
    **changes
        Fields of :class:`EmbeddingSettings` that differ from ``settings``.

    Returns
    -------
    ``(n_cells, embsize)`` float32.

    Raises
    ------
    PerturbenchError
        If no gene is in the vocabulary, ``gene_key`` is not in ``var``, or the device cannot be used.
    """
    settings = EmbeddingSettings.override(settings, changes)
    columns, genes = _known_genes(adata, checkpoint.vocabulary, settings.gene_key)
    torch_device = _device(settings.device)
    network = checkpoint.network.to(torch_device)
    seeds = cell_seeds(adata.obs_names, settings.seed)
    embeddings = np.empty((adata.n_obs, network.width), dtype=np.float32)
    n_empty = 0
    progress = tqdm(total=adata.n_obs, desc="Embedding cells", disable=not sys.stderr.isatty())
    for chunk in row_slices(adata.n_obs, _CHUNK):
        tokens = tokenise(
            sp.csr_matrix(adata.X[chunk])[:, columns],
            genes,
            seeds[chunk],
            cls_token=checkpoint.cls_token,
            pad_token=checkpoint.pad_token,
            pad_value=checkpoint.pad_value,
            max_length=settings.max_length,
        )
        n_empty += int((tokens.lengths == 1).sum())
        # Batches of cells of similar length need little padding, which would cost computing time.
        by_length = np.argsort(tokens.lengths, kind="stable")
        for rows in (by_length[part] for part in row_slices(len(by_length), settings.batch_size)):
            embeddings[chunk.start + rows] = _embed(tokens, rows, network, torch_device)
            progress.update(len(rows))
    progress.close()
    if n_empty:
        logger.warning(
            "%d cells have no counts of genes that scGPT knows; they all get the embedding of an empty cell", n_empty
        )
    return embeddings


def _known_genes(adata: ad.AnnData, vocabulary: dict[str, int], gene_key: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns of genes that are in the vocabulary, and the tokens of these genes."""
    if gene_key is not None and gene_key not in adata.var:
        raise PerturbenchError(
            f"embedding.gene_key '{gene_key}' is not a column of var; columns are: {listing(adata.var.columns)}."
        )
    symbols = (adata.var_names if gene_key is None else adata.var[gene_key]).astype(str)
    tokens = np.array([vocabulary.get(symbol, -1) for symbol in symbols])
    known = tokens >= 0
    if not known.any():
        examples = [name for name in vocabulary if not name.startswith("<")][:3]
        raise PerturbenchError(
            f"none of the {adata.n_vars} genes is in the vocabulary of scGPT: {listing(symbols)}; it has "
            f"{len(vocabulary)} gene symbols, such as {listing(examples)}. "
            "Set embedding.gene_key to the column of var with gene symbols."
        )
    logger.info(
        "%d of %d genes are in the vocabulary of scGPT; not in it: %s",
        known.sum(),
        len(known),
        listing(np.asarray(symbols)[~known]),
    )
    return np.flatnonzero(known), tokens[known]


@torch.inference_mode()
def _embed(tokens: Tokens, rows: np.ndarray, network: torch.nn.Module, device: torch.device) -> np.ndarray:
    lengths = tokens.lengths[rows]
    longest = int(lengths.max())
    padding = torch.from_numpy(np.arange(longest) >= lengths[:, None])
    output = network(
        torch.from_numpy(tokens.genes[rows, :longest]).to(device),
        torch.from_numpy(tokens.values[rows, :longest]).to(device),
        padding.to(device) if padding.any() else None,
    )
    return F.normalize(output, dim=1).cpu().numpy()


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise PerturbenchError(
            f"embedding.device '{name}' cannot be used: {str(error).splitlines()[0]}; "
            "choose auto, cpu, cuda, cuda:1, ..."
        ) from error
