from .anchors import anchor_scores, normalise
from .evaluation import Evaluation, evaluate
from .inference.uncertainty import bootstrap_intervals, paired_tests
from .metrics.collapse import collapse_diagnostics
from .metrics.registry import available_metrics, register_aggregation, register_comparison, register_metric
from .profiles.prediction import Prediction
from .profiles.reference import Reference

__all__ = [
    "Evaluation",
    "Prediction",
    "Reference",
    "anchor_scores",
    "available_metrics",
    "bootstrap_intervals",
    "collapse_diagnostics",
    "evaluate",
    "normalise",
    "paired_tests",
    "register_aggregation",
    "register_comparison",
    "register_metric",
]
