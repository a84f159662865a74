from .checkpoints import build_model, load_model
from .fitting import fit
from .prediction import predict, predict_queries, test_scores
from .settings import TrainingSettings

__all__ = [
    "TrainingSettings",
    "build_model",
    "fit",
    "load_model",
    "predict",
    "predict_queries",
    "test_scores",
]
