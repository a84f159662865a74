"""The section ``data``: which data set, where its file comes from, and how it is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from perturbench.data.groups import Keys
from perturbench.data.sources.simulation import SimulationSettings
from perturbench.errors import PerturbenchError, require_choice, require_name
from perturbench.parameters import Parameters

if TYPE_CHECKING:
    from perturbench.data.curation import Layout
    from perturbench.data.sources.remote import RemoteFile


class RemoteFileConfig(Parameters):
    """Address, size and checksum of a published file, see :class:`perturbench.data.sources.remote.RemoteFile`."""

    url: str = Field(pattern=r"^https?://\S+$")
    bytes: int | None = Field(default=None, gt=0)
    checksum: str | None = Field(default=None, pattern=r"^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})$")


class PublishedConfig(Parameters):
    """One published form of a data set: its files by name, and ``read``, the name of the h5ad file to read.

    If ``read`` is not one of the files, ``conversion`` tells the user how to make it from them. ``splitter`` has the
    parameters of the split that was published with the form; they override those of the task.
    """

    files: dict[Annotated[str, Field(pattern=r"^[^/\\.][^/\\]*$")], RemoteFileConfig] = Field(min_length=1)
    read: str
    conversion: str | None = None
    licence: str | None = None
    splitter: dict[str, Any] = Field(default={})

    @field_validator("read")
    @classmethod
    def _safe_read(cls, value: str) -> str:
        require_name("the file", value)
        return value

    @property
    def remote_files(self) -> tuple[RemoteFile, ...]:
        """The files to download."""
        from perturbench.data.sources.remote import RemoteFile

        return tuple(RemoteFile(name, **file.model_dump()) for name, file in self.files.items())


class SourceConfig(Parameters):
    """Where the raw data comes from: a file, the simulator, or one of the ``published`` forms, which ``kind`` names."""

    kind: str = "file"
    path: str | None = None
    sha256: str | None = None
    how_to_get: str = "Place the file there, or name another file with --params=data.source.path:<file>."
    cache: str = "data/01_raw"
    mismatch: Literal["refuse", "accept"] = "refuse"
    published: dict[str, PublishedConfig] = Field(default={})
    simulation: SimulationSettings = SimulationSettings()

    @model_validator(mode="after")
    def _known_kind(self) -> SourceConfig:
        require_choice("data.source.kind", self.kind, ("file", "simulation", *self.published))
        if self.path is None and self.kind not in self.published:
            raise PerturbenchError(f"data.source.path is not set; kind '{self.kind}' needs the path of an h5ad.")
        return self

    @property
    def form(self) -> PublishedConfig | None:
        """The form to download; ``None`` for a file that the user names and for a simulation."""
        return self.published.get(self.kind) if self.path is None else None


class CardConfig(Parameters):
    """Facts about a data set for its users: who made it, under which licence, and how large it is."""

    citation: str | None = None
    url: str | None = None
    licence: str | None = None
    cells: int | None = Field(default=None, gt=0)
    perturbations: str | None = None


#: Fields of :class:`DataConfig` that describe how a file is laid out.
_LAYOUT_FIELDS = ("perturbation_key", "control", "counts_layer", "rename_perturbations", "curation")


class DataConfig(Parameters):
    """Which data set is used, and how its file is read.

    The file of a known data set is recognised by its columns, see :func:`perturbench.data.curation.known_layouts`. A
    task that describes a layout itself uses only that one.
    """

    dataset: str
    source: SourceConfig
    perturbation_key: str = "condition"
    covariate_keys: tuple[str, ...] = ("cell_type",)
    control: str = "control"
    delimiter: str | None = "+"
    counts_layer: str | None = None
    embedding_key: str | None = None
    rename_perturbations: dict[str, str] = Field(default={})
    layout: str | None = None
    curation: tuple[dict[str, dict[str, Any]], ...] = ()
    min_controls: int = Field(default=1, ge=1)
    card: CardConfig = CardConfig()

    @field_validator("dataset")
    @classmethod
    def _safe_dataset(cls, value: str) -> str:
        require_name("the data set", value)
        return value

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
        """The folder that the files of the data set are downloaded to."""
        return Path(self.source.cache) / self.dataset

    @property
    def licence(self) -> str | None:
        """The licence of the file that is read; a published form may have another one than the data set."""
        form = self.source.form
        return form.licence if form and form.licence else self.card.licence

    @property
    def layouts(self) -> list[Layout]:
        """The layouts that the source's file may have: the known ones of the data set, then the one of this section.

        If this section differs from the defaults, its layout is the only one.
        """
        from perturbench.data.curation.layouts import Layout, known_layouts

        fields = type(self).model_fields
        described = any(getattr(self, name) != fields[name].default for name in _LAYOUT_FIELDS)
        configured = Layout(
            "configured",
            (self.perturbation_key,),
            self.perturbation_key,
            self.control,
            self.counts_layer,
            self.rename_perturbations,
            self.curation,
        )
        return [configured] if described and self.layout is None else [*known_layouts(self.dataset), configured]

    @property
    def keys(self) -> Keys:
        """The keys after curation: perturbations are in ``condition``, controls are ``control``."""
        return Keys("condition", self.covariate_keys, "control", self.delimiter)
