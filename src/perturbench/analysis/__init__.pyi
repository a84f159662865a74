from .anchors import anchor_scores, normalise
from .collapse import collapse_diagnostics
from .evaluation import Evaluation, evaluate
from .metrics import available_metrics, register_aggregation, register_metric, register_side_metric
from .preprocessing import prepare
from .statistics import Prediction, Reference
from .uncertainty import bootstrap_intervals, paired_tests

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
    "prepare",
    "register_aggregation",
    "register_metric",
    "register_side_metric",
]
