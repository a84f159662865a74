"""Preprocessing, aggregation, metrics and evaluation; knows data, not models."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "evaluation": ["Evaluation", "evaluate"],
        "anchors": ["anchor_scores", "normalise"],
        "collapse": ["collapse_diagnostics"],
        "metrics": ["available_metrics", "register_aggregation", "register_metric", "register_side_metric"],
        "preprocessing": ["prepare"],
        "statistics": ["Prediction", "Reference"],
        "uncertainty": ["bootstrap_intervals", "paired_tests"],
    },
)
