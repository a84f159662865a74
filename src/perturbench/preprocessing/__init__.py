"""From raw counts to what models train on: normalisation, gene selection, cell embeddings."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
