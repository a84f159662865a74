"""Cell embeddings from a pretrained network or by principal components, which models can use in place of expression."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
