from .checkpoint import ScGPTCheckpoint, checkpoint_files, read_checkpoint
from .pca import pca_embeddings
from .scgpt import scgpt_embeddings
from .settings import EmbeddingSettings

__all__ = [
    "EmbeddingSettings",
    "ScGPTCheckpoint",
    "checkpoint_files",
    "pca_embeddings",
    "read_checkpoint",
    "scgpt_embeddings",
]
