from .checkpoints import build_model, load_model
from .fitting import fit
from .prediction import predict, predict_queries, test_scores

__all__ = [
    "build_model",
    "fit",
    "load_model",
    "predict",
    "predict_queries",
    "test_scores",
]
