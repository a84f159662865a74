"""The command lines: ``kedro run`` and ``kedro benchmark`` of a project, and ``perturbench``."""

import lazy_loader as lazy

# Kedro looks for ``cli`` and ``run`` here.
__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
