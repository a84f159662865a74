from .checkpoint import ScGPTCheckpoint, checkpoint_files, read_checkpoint
from .scgpt import scgpt_embeddings

__all__ = [
    "ScGPTCheckpoint",
    "checkpoint_files",
    "read_checkpoint",
    "scgpt_embeddings",
]
