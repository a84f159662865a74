"""One section per stage: the settings of the library's functions, and further settings of the pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from perturbench.data.queries import SUFFIXES
from perturbench.data.splits.methods import METHODS
from perturbench.data.splits.rules import SplitRules
from perturbench.errors import PerturbenchError, require_choice
from perturbench.parameters import Parameters
from perturbench.preprocessing.embeddings.settings import EmbeddingSettings
from perturbench.preprocessing.settings import PreprocessingSettings
from perturbench.training.settings import TrainingSettings


class PreprocessingConfig(PreprocessingSettings):
    """Settings of the preprocessing, and ``fit_on``: the cells that genes are selected on."""

    fit_on: Literal["all", "train"] = "all"


class EmbeddingConfig(EmbeddingSettings):
    """Which embedding of the cells preprocessing adds to ``obsm``, if any, and its settings."""

    kind: Literal["scgpt", "pca"] | None = None
    key: str | None = Field(default=None, pattern=r"^[\w.-]+$")
    checkpoint: str
    n_components: int = Field(default=50, ge=1)

    @property
    def obsm_key(self) -> str:
        """The key of ``obsm`` that the embedding is stored under."""
        return self.key or f"X_{self.kind}"

    def result_fields(self) -> dict[str, Any]:
        """Return the parameters that the embedding depends on; the checkpoint's files have their own fingerprints."""
        if self.kind == "pca":
            return self.model_dump(include={"kind", "n_components", "seed"})
        return self.model_dump(exclude={"key", "checkpoint", "batch_size", "device", "n_components"})


class SplitterConfig(SplitRules):
    """Method, seed and rules of the split; the methods ``csv`` and ``column`` read it from ``path`` or ``column``."""

    method: str
    seed: int = Field(default=42, ge=0)
    path: str | None = None
    column: str | None = None

    @model_validator(mode="after")
    def _known_place(self) -> SplitterConfig:
        place = {"csv": "path", "column": "column"}.get(self.method)
        if place and not getattr(self, place):
            raise PerturbenchError(
                f"splitter.method is '{self.method}', but splitter.{place} is not set; it says where the split is."
            )
        return self

    @field_validator("method")
    @classmethod
    def _known_method(cls, value: str) -> str:
        require_choice("splitter.method", value, METHODS)
        return value


class TrainerConfig(TrainingSettings):
    """Settings of the training, and of the batches of :class:`perturbench.data.PerturbationDataModule`."""

    batch_size: int = Field(default=256, ge=1)
    num_workers: int = Field(default=0, ge=0)
    preload_to_device: Literal["auto"] | bool = "auto"
    train_on_controls: bool = True

    def result_fields(self) -> dict[str, Any]:
        """Return the parameters that the trained model depends on."""
        return self.model_dump(exclude={"num_workers", "preload_to_device", "log_every_n_epochs"})


class PredictionConfig(Parameters):
    """Which part of the split is predicted, and from which and at most how many control cells per state."""

    part: Literal["train", "val", "test"] = "test"
    controls: Literal["all", "part"] = "all"
    max_control_cells: int | None = Field(default=1000, ge=1)


class QueriesConfig(Parameters):
    """The table of queries, the form of their predictions, and what a template of the table lists."""

    path: str
    output: Literal["cells", "pseudobulk"] = "cells"
    template: Literal["all", "unobserved", "doubles"] = "all"

    @field_validator("path")
    @classmethod
    def _known_suffix(cls, value: str) -> str:
        require_choice("suffix of queries.path", Path(value).suffix, SUFFIXES)
        return value


class EvaluationConfig(Parameters):
    """How :func:`perturbench.analysis.evaluate` scores predictions, and which modules register further metrics."""

    metrics: str | list[str] = "default"
    negative: Literal["refuse", "clip"] = "clip"
    missing: Literal["refuse", "report"] = "refuse"
    plugins: tuple[str, ...] = ()


class ReportingConfig(Parameters):
    """The series of tasks that a report compares, and the perturbations that it shows in detail.

    If ``series`` is empty, the report compares only models of its own task. If ``examples`` is empty, it shows the
    best, the median and the worst predicted perturbation.
    """

    series: tuple[str, ...] = ()
    against: Literal["imbalance", "training_cells"] = "imbalance"
    examples: tuple[str, ...] = ()
    embedding: Literal["pca", "umap"] = "pca"
