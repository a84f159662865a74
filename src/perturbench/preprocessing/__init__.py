"""Preprocessing of raw counts for training: normalisation, gene selection and cell embeddings."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
