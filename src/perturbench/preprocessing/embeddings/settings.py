"""Settings of the cell embeddings, readable without torch."""

from __future__ import annotations

from pydantic import Field

from perturbench.parameters import Parameters


class EmbeddingSettings(Parameters):
    """How a pretrained network embeds cells.

    Attributes
    ----------
    gene_key
        Column of ``var`` with gene symbols; by default, the names of the genes are their symbols.
    max_length
        Largest number of tokens per cell, ``<cls>`` included. A cell that expresses more genes is represented by a
        random sample of them.
    batch_size
        Number of cells that go through the network at a time.
    device
        Name of a torch device, or ``auto``, which uses a GPU if there is one.
    seed
        Seed of the sample of genes, and of the bins of tied values.
    """

    gene_key: str | None = None
    max_length: int = Field(default=1200, ge=2)
    batch_size: int = Field(default=64, ge=1)
    device: str = "auto"
    seed: int = Field(default=0, ge=0)
