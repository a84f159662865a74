"""Cell embeddings of pretrained networks, which models can take in place of expression."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checkpoint": ["ScGPTCheckpoint", "checkpoint_files", "read_checkpoint"],
        "scgpt": ["scgpt_embeddings"],
    },
)
