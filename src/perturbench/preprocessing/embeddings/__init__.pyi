from .checkpoint import ScGPTCheckpoint, checkpoint_files, read_checkpoint
from .scgpt import scgpt_embeddings
from .settings import EmbeddingSettings

__all__ = [
    "EmbeddingSettings",
    "ScGPTCheckpoint",
    "checkpoint_files",
    "read_checkpoint",
    "scgpt_embeddings",
]
