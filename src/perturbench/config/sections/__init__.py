"""Typed sections of the parameters: a wrong name or value fails before any node runs."""

from perturbench.config.sections.data import DataConfig
from perturbench.config.sections.search import HpoConfig
from perturbench.config.sections.stages import (
    EmbeddingConfig,
    EvaluationConfig,
    PredictionConfig,
    PreprocessingConfig,
    QueriesConfig,
    ReportingConfig,
    SplitterConfig,
    TrainerConfig,
)

__all__ = [
    "DataConfig",
    "EmbeddingConfig",
    "EvaluationConfig",
    "HpoConfig",
    "PredictionConfig",
    "PreprocessingConfig",
    "QueriesConfig",
    "ReportingConfig",
    "SplitterConfig",
    "TrainerConfig",
]
