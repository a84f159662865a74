"""Typed parameter sections: a wrong name or value fails before any node runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

from perturbench.data.groups import Keys
from perturbench.data.queries import SUFFIXES
from perturbench.errors import PerturbenchError, listing, require_choice

if TYPE_CHECKING:
    from perturbench.data.curation import Layout
    from perturbench.data.sources.remote import RemoteFile


class Section(BaseModel):
    """A section of the parameters; unknown names are refused with the names there are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_names(cls, values: Any) -> Any:
        if isinstance(values, dict) and (unknown := sorted(set(values) - set(cls.model_fields))):
            raise PerturbenchError(
                f"unknown parameters: {listing(unknown)}; choose among: {listing(cls.model_fields, 50)}"
            )
        return values


class SimulationConfig(Section):
    """Arguments of :func:`perturbench.data.sources.simulation.simulate`."""

    n_cells: int = Field(3000, gt=0)
    n_genes: int = Field(200, gt=0)
    n_states: int = Field(3, gt=0)
    n_singles: int = Field(12, gt=1)
    n_doubles: int = Field(6, ge=0)
    control_fraction: float = Field(0.15, gt=0, lt=1)
    effect_fraction: float = Field(0.1, ge=0, le=1)
    effect_size: float = Field(1.0, ge=0)
    interaction_size: float = Field(0.25, ge=0)
    mean_depth: float = Field(3000.0, gt=0)
    dispersion: float = Field(0.0, ge=0)
    dropout_midpoint: float = Field(0.0, ge=0)
    seed: int = 0


class RemoteFileConfig(Section):
    """A published file, see :class:`perturbench.data.sources.remote.RemoteFile`."""

    url: str = Field(pattern=r"^https?://\S+$")
    bytes: int | None = Field(None, gt=0)
    checksum: str | None = Field(None, pattern=r"^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})$")


class PublishedConfig(Section):
    """A form in which a data set is published: its files by name, and the h5ad that is read of them.

    ``conversion`` says how to make ``read`` from the files where it is none of them.
    """

    files: dict[Annotated[str, Field(pattern=r"^[^/\\.][^/\\]*$")], RemoteFileConfig] = Field(min_length=1)
    read: str
    conversion: str | None = None
    licence: str | None = None

    @property
    def remote_files(self) -> tuple[RemoteFile, ...]:
        """What is downloaded."""
        from perturbench.data.sources.remote import RemoteFile

        return tuple(RemoteFile(name, **file.model_dump()) for name, file in self.files.items())


class SourceConfig(Section):
    """Where the raw data comes from: a file, the simulator, or one of the forms in which it is ``published``."""

    kind: str = "file"
    path: str | None = None
    sha256: str | None = None
    how_to_get: str = "Place the file there, or name another with --params=data.source.path:<file>."
    cache: str = "data/01_raw"
    mismatch: Literal["refuse", "accept"] = "refuse"
    published: dict[str, PublishedConfig] = {}
    simulation: SimulationConfig = SimulationConfig()

    @model_validator(mode="after")
    def _known_kind(self) -> SourceConfig:
        require_choice("data.source.kind", self.kind, ("file", "simulation", *self.published))
        if self.path is None and self.kind not in self.published:
            raise PerturbenchError(f"data.source.path is not set; kind '{self.kind}' needs the path of an h5ad.")
        return self

    @property
    def form(self) -> PublishedConfig | None:
        """The form that is downloaded; ``None`` for a file of one's own and a simulation."""
        return self.published.get(self.kind) if self.path is None else None


class CardConfig(Section):
    """What is known of a data set, for people: who made it, under which terms, how large it is."""

    citation: str | None = None
    url: str | None = None
    licence: str | None = None
    cells: int | None = Field(None, gt=0)
    perturbations: str | None = None


#: Fields of :class:`DataConfig` that describe a file.
_OF_A_LAYOUT = ("perturbation_key", "control", "counts_layer", "rename", "curation")


class DataConfig(Section):
    """What the data set is and how its file is read.

    A file of a known data set is recognised by its columns, see :func:`perturbench.data.curation.known_layouts`, unless
    the task says itself how the file is to be read.
    """

    dataset: str
    source: SourceConfig
    perturbation_key: str = "condition"
    covariate_keys: tuple[str, ...] = ("cell_type",)
    control: str = "control"
    delimiter: str | None = "+"
    counts_layer: str | None = None
    embedding_key: str | None = None
    rename: dict[str, str] = {}
    layout: str | None = None
    curation: tuple[dict[str, dict[str, Any]], ...] = ()
    min_controls: int = Field(1, ge=1)
    card: CardConfig = CardConfig()

    @field_validator("curation")
    @classmethod
    def _known_steps(cls, value: tuple[dict[str, dict[str, Any]], ...]) -> tuple[dict[str, dict[str, Any]], ...]:
        from perturbench.data.curation.steps import find_step

        for step in value:
            for name, arguments in step.items():
                find_step(name, arguments)
        return value

    @property
    def folder(self) -> Path:
        """Where the files of the data set are downloaded to."""
        return Path(self.source.cache) / self.dataset

    @property
    def licence(self) -> str | None:
        """The terms of what is read: the published form may have others than the data set."""
        form = self.source.form
        return form.licence if form and form.licence else self.card.licence

    @property
    def layouts(self) -> list[Layout]:
        """What the source's file may look like: the data set's known layouts, then what this section says.

        If this section says anything about it, nothing else.
        """
        from perturbench.data.curation.layouts import Layout, known_layouts

        fields = type(self).model_fields
        said = any(getattr(self, name) != fields[name].default for name in _OF_A_LAYOUT)
        own = Layout(
            "configured",
            (self.perturbation_key,),
            self.perturbation_key,
            self.control,
            self.counts_layer,
            self.rename,
            self.curation,
        )
        return [own] if said and self.layout is None else [*known_layouts(self.dataset), own]

    @property
    def keys(self) -> Keys:
        """The keys after curation: perturbations are in ``condition``, controls are ``control``."""
        return Keys("condition", self.covariate_keys, "control", self.delimiter)


class PreprocessingConfig(Section):
    """Arguments of :func:`perturbench.preprocessing.preparation.prepare`."""

    fit_on: Literal["all", "train"] = "all"
    min_cells: int = Field(10, ge=0)
    target_sum: float = Field(10_000.0, gt=0)
    n_top_genes: int = Field(4000, gt=0)
    n_de_genes: int = Field(25, ge=0)
    keep_perturbed_genes: bool = True


class EmbeddingConfig(Section):
    """Cell embeddings that preprocessing adds to ``obsm[key]``.

    See :func:`perturbench.preprocessing.embeddings.scgpt_embeddings`.
    """

    kind: Literal["scgpt"] | None = None
    key: str = Field("X_scgpt", pattern=r"^[\w.-]+$")
    checkpoint: str
    gene_key: str | None = None
    max_length: int = Field(1200, ge=2)
    batch_size: int = Field(64, ge=1)
    device: str = "auto"
    seed: int = Field(0, ge=0)

    def arguments(self) -> dict[str, Any]:
        """Return what ``scgpt_embeddings`` takes."""
        return self.model_dump(exclude={"kind", "key", "checkpoint"})

    def result_fields(self) -> dict[str, Any]:
        """Return the parameters that the values depend on, but for the checkpoint's content."""
        return self.model_dump(exclude={"key", "checkpoint", "batch_size", "device"})


class SplitterConfig(Section):
    """Arguments of :func:`perturbench.data.splits.split_cells`; ``path`` is for the method ``csv``."""

    method: Literal["transfer", "combine", "combine_inverse", "manual", "unseen", "csv"]
    seed: int = 42
    max_heldout_covariates: int = Field(1, ge=1)
    max_heldout_fraction_per_covariate: float = Field(0.3, gt=0, le=1)
    max_heldout_perturbations_per_covariate: int | None = Field(None, ge=1)
    min_train_covariates: int = Field(1, ge=1)
    test_fraction: float = Field(0.5, gt=0, lt=1)
    train_control_fraction: float = Field(0.5, gt=0, lt=1)
    heldout_states: tuple[dict[str, Any], ...] = ()
    strict: bool = False
    n_folds: int = Field(5, ge=3)
    fold: int = Field(0, ge=0)
    downsample_fraction: float = Field(1.0, gt=0, le=1)
    perturbations_per_state: dict[str, PositiveInt] = {}
    states: tuple[dict[str, Any], ...] = ()
    train_states: Literal["others"] | tuple[dict[str, Any], ...] = ()
    path: str | None = None

    def rules(self) -> dict[str, Any]:
        """Return the fields of :class:`perturbench.data.splits.SplitRules`."""
        return self.model_dump(exclude={"method", "seed", "path"})


class TrainerConfig(Section):
    """Arguments of :func:`perturbench.training.fitting.fit`, and of the loader."""

    max_epochs: int = Field(500, ge=1)
    min_epochs: int = Field(5, ge=1)
    patience: int = Field(50, ge=1)
    batch_size: int = Field(256, ge=1)
    num_workers: int = Field(0, ge=0)
    preload_to_device: Literal["auto"] | bool = "auto"
    accelerator: str = "cpu"
    devices: int | str = 1
    strategy: str = "auto"
    precision: str = "32-true"
    gradient_clip_val: float | None = Field(None, gt=0)
    compile: Literal["auto"] | bool = "auto"
    log_every_n_epochs: int = Field(10, ge=1)

    def fit_arguments(self) -> dict[str, Any]:
        """Return what ``fit`` takes."""
        return self.model_dump(exclude={"batch_size", "num_workers", "preload_to_device"})

    def result_fields(self) -> dict[str, Any]:
        """Return the parameters that results depend on."""
        return self.model_dump(exclude={"num_workers", "preload_to_device", "log_every_n_epochs"})


class PredictionConfig(Section):
    """What is predicted: the pairs of a part, from which control cells and at most how many per state."""

    part: Literal["train", "val", "test"] = "test"
    controls: Literal["all", "part"] = "all"
    max_control_cells: int | None = Field(1000, ge=1)


class QueriesConfig(Section):
    """Predictions that a table asks for: where it is, what comes out, and what a template of it lists."""

    path: str
    output: Literal["cells", "pseudobulk"] = "cells"
    template: Literal["all", "unobserved", "doubles"] = "all"

    @field_validator("path")
    @classmethod
    def _known_suffix(cls, value: str) -> str:
        require_choice("suffix of queries.path", Path(value).suffix, SUFFIXES)
        return value


class EvaluationConfig(Section):
    """How predictions are scored, see :func:`perturbench.analysis.evaluation.evaluate`."""

    metrics: str | list[str] = "default"
    negative: Literal["refuse", "clip"] = "clip"
    missing: Literal["refuse", "report"] = "refuse"
    plugins: tuple[str, ...] = ()


class ReportingConfig(Section):
    """The tasks that a report compares with its own, and what they differ in; none: the report is of one task."""

    series: tuple[str, ...] = ()
    against: Literal["imbalance", "training_cells"] = "imbalance"


class HpoConfig(Section):
    """The search: how many trials, kept where, minimising which weighted sum of metrics."""

    n_trials: int = Field(60, ge=1)
    storage: str
    heartbeat: int = Field(60, ge=1)
    objective: dict[str, float] = Field({"rmse_average": 1.0, "rmse_rank_average": 0.1}, min_length=1)
    n_startup_trials: int = Field(10, ge=0)

    @field_validator("storage")
    @classmethod
    def _known_storage(cls, value: str) -> str:
        if not value.startswith(("journal:", "postgresql://")):
            raise PerturbenchError(
                f"storage '{value}' is not known; use journal:<file>, or postgresql://user@host:port/database for "
                "workers on several machines."
            )
        address = urlsplit(value)
        if address.scheme == "postgresql" and (address.password or "password" in parse_qs(address.query)):
            raise PerturbenchError(
                "storage holds a password, which would be in logs and tracking; leave it out of the address, and give "
                "it as the environment variable PGPASSWORD or in ~/.pgpass."
            )
        return value
