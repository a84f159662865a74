"""Data abstractions of the paper: examples, batches, datasets, the datamodule, splits and simulation."""

import lazy_loader

# Lazy: reading the names of perturbations must not cost an import of torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
