"""Command lines: ``kedro run`` and ``kedro benchmark`` in a project, and ``perturbench`` anywhere."""

import lazy_loader as lazy

# Kedro looks up the names ``cli`` and ``run`` here.
__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
