"""Convert published files to the standard form that all later steps rely on."""

import lazy_loader

# Lazy: checking the steps of a task must not cost an import of anndata.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
