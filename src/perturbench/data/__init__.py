"""Data sets of perturbed cells: loading, encoding, splitting, curating and simulating them."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
