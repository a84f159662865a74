"""Preprocessing, aggregation, metrics and evaluation; knows data, not models."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "evaluation": ["Evaluation", "evaluate"],
        "metrics": ["register_aggregation", "register_metric"],
        "preprocessing": ["prepare"],
    },
)
