"""What the project's configuration says of a task of the grid: its cells' stamps, its files and its commands."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perturbench import __version__
from perturbench.config.sections import (
    DataConfig,
    EmbeddingConfig,
    EvaluationConfig,
    PredictionConfig,
    PreprocessingConfig,
    SplitterConfig,
    TrainerConfig,
)
from perturbench.errors import PerturbenchError
from perturbench.grid.cells import Cell, needs_training, stale_because
from perturbench.grid.processes import Job
from perturbench.grid.task_data import known_inputs, record_inputs
from perturbench.pipelines.evaluation.nodes import configured_metrics
from perturbench.pipelines.inputs import embedding_name, prediction_stamp, training_stamp
from perturbench.provenance import fingerprint_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping

_OF_THE_DATA = {
    "data": DataConfig,
    "preprocessing": PreprocessingConfig,
    "embedding": EmbeddingConfig,
    "splitter": SplitterConfig,
}
#: Parameters of one model's stage, which the stages of all models do not take.
_OF_A_MODEL = ("hparams", "hyperparameters", "search_space")


@dataclass(frozen=True)
class Params:
    """What ``--params`` gives: each ``key=value`` as it was typed, and all of them nested."""

    items: tuple[str, ...] = ()
    nested: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shared(self) -> Params:
        """Return those that are not of a model's stage."""
        items = tuple(item for item in self.items if re.split("[.=:]", item)[0] not in _OF_A_MODEL)
        return Params(items, {name: value for name, value in self.nested.items() if name not in _OF_A_MODEL})

    @property
    def of_a_model(self) -> dict[str, Any]:
        """Return the others."""
        return {name: value for name, value in self.nested.items() if name in _OF_A_MODEL}


class TaskOfGrid:
    """A task, as the project's configuration and the grid's parameters have it.

    Parameters
    ----------
    root
        The project's folder.
    name
        Of the task.
    params
        What ``--params`` gives every cell.
    env
        The Kedro environment.
    variables
        Environment variables of its processes.
    """

    def __init__(
        self, root: Path, name: str, params: Params, env: str | None = None, variables: Mapping[str, str] | None = None
    ) -> None:
        self.name, self._root, self._params, self._env, self._variables = name, root, params, env, variables or {}
        # The loader has no model's parameters: they need not fit the model that no one asked for.
        self._loader = _loader(root, env, {**params.shared.nested, "task": name})
        # Resolvers are global, those of the last loader: the catalog is resolved before there is another one.
        self._catalog = self._loader["catalog"]
        given = self._loader["parameters"]
        self._data_sections = {section: kind(**given[section]) for section, kind in _OF_THE_DATA.items()}
        self.title: str = given["title"]
        self._of_models: dict[str, dict[str, Any]] = {}

    def check(self, model: str) -> None:
        """Raise if the cells of a model cannot be run.

        Raises
        ------
        PerturbenchError
            If the model is unknown, or has not the hyperparameters that are asked for.
        ValidationError
            If a parameter has a wrong value.
        """
        self.expected_stamp(Cell(self.name, model, 0), {})
        configured_metrics(EvaluationConfig(**self._parameters(model)["evaluation"]))

    def path(self, dataset: str) -> Path:
        """Return where the catalog has a file, or folder of partitions, of the task."""
        entry = self._catalog[dataset]
        return self._root / (entry.get("filepath") or entry["path"])

    def prediction_of(self, cell: Cell) -> Path:
        """Return where the prediction of a cell is."""
        suffix = self._catalog["predictions"]["filename_suffix"]
        return self.path("predictions") / cell.model / f"seed{cell.seed}{suffix}"

    def inputs(self) -> dict[str, str] | None:
        """Return the fingerprints of the data that is there; ``None`` if it has to be made, first or again."""
        files = self._files()
        return known_inputs(self._record, self._data_parameters, files) if files else None

    def record_inputs(self) -> dict[str, str]:
        """Take, write down and return the fingerprints of data that has just been made."""
        files = self._files()
        if files is None:
            raise PerturbenchError(f"the data of '{self.name}' is not on disk; kedro benchmark needs local files.")
        return record_inputs(self._record, self._data_parameters, files, self.path("prepared"), self.path("split"))

    def stale_because(self, cell: Cell, inputs: Mapping[str, str]) -> str | None:
        """Return why a cell has to run; ``None`` if its prediction is what a run would make now."""
        return stale_because(self.expected_stamp(cell, inputs), self.prediction_of(cell))

    def expected_stamp(self, cell: Cell, inputs: Mapping[str, str]) -> dict[str, Any]:
        """Return the stamp that a run of a cell would give its prediction now."""
        given = self._parameters(cell.model)
        data, trainer = DataConfig(**given["data"]), TrainerConfig(**given["trainer"])
        names = ["prepared", "split"] + ([embedding_name(data.embedding_key)] if data.embedding_key else [])
        used = {name: inputs.get(name, "") for name in names}
        made_by = training_stamp(used, data, trainer, given["model_target"], given["hparams"], **asdict(cell))
        return prediction_stamp(made_by, PredictionConfig(**given["prediction"]))

    def data_job(self) -> Job:
        """Return the process that makes the data."""
        return self._job("data", "ingestion,splitting,preprocessing", self._params.shared)

    def cell_job(self, cell: Cell, inputs: Mapping[str, str] | None) -> Job:
        """Return the process that trains and predicts, or predicts with the checkpoint that is there."""
        chosen = {"model": cell.model, "seed": cell.seed}
        job = self._job(f"{cell.model}-seed{cell.seed}", "modeling", self._params, **chosen)
        if inputs and self._is_trained(cell, inputs):
            job = replace(job, arguments=(*job.arguments, "--nodes=modeling.predict"))
        return replace(job, name=cell.name)

    def report_job(self) -> Job:
        """Return the process that evaluates and reports."""
        return self._job("report", "evaluation,reporting", self._params.shared)

    def _job(self, name: str, pipelines: str, params: Params, **chosen: Any) -> Job:
        items = [f"{key}={value}" for key, value in {"task": self.name, **chosen}.items()]
        arguments = ["run", f"--pipelines={pipelines}", f"--params={','.join([*items, *params.items])}"]
        arguments += [f"--env={self._env}"] if self._env else []
        log = self.path("report").parent / "logs" / f"{name}.log"
        return Job(f"{self.name}: {name}", tuple(arguments), self._root, log, self._variables)

    def _is_trained(self, cell: Cell, inputs: Mapping[str, str]) -> bool:
        """Return whether the checkpoint of a cell made its prediction, and would be made again as it is."""
        checkpoint = self.path("checkpoint").parents[1] / cell.model / f"seed{cell.seed}.ckpt"
        prediction = self.prediction_of(cell)
        if not (checkpoint.is_file() and prediction.is_file()) or _changed(checkpoint) > _changed(prediction):
            return False
        return not needs_training(self.expected_stamp(cell, inputs), prediction)

    def _parameters(self, model: str) -> dict[str, Any]:
        """Return the parameters of a model's cells, which are the same for all seeds."""
        if model not in self._of_models:
            self._of_models[model] = self._loader.of_a_run(model=model, **self._params.of_a_model)
        return self._of_models[model]

    @property
    def _record(self) -> Path:
        return self.path("split").parent / "grid.json"

    @property
    def _data_parameters(self) -> dict[str, str]:
        """Return fingerprints; one of the embedding only if there is to be one."""
        cells = {name: section for name, section in self._data_sections.items() if name != "embedding"}
        fingerprints = {"cells": fingerprint_parameters([__version__, cells])}
        embedding = self._data_sections["embedding"]
        return fingerprints | ({"embedding": fingerprint_parameters([embedding])} if embedding.kind else {})

    def _files(self) -> list[Path] | None:
        """Return the files that the data is made from and of, ``None`` if one of them is not there."""
        manifest = self.path("raw")
        if not manifest.is_file():
            return None
        splitter, embedding = self._data_sections["splitter"], self._data_sections["embedding"]
        files = [Path(json.loads(manifest.read_text())["path"])]
        files += [self.path(name) for name in ("curated", "split", "prepared")]
        files += [Path(splitter.path or "")] if splitter.method == "csv" else []
        files += [Path(embedding.checkpoint)] if embedding.kind else []
        return files if all(path.exists() for path in files) else None


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns


def _loader(root: Path, env: str | None, params: Mapping[str, Any]) -> Any:
    from kedro.framework.project import settings

    arguments = {"env": env, "runtime_params": dict(params), **settings.CONFIG_LOADER_ARGS}
    return settings.CONFIG_LOADER_CLASS(conf_source=str(root / "conf"), **arguments)


def load_suites(root: Path, env: str | None) -> dict[str, Any]:
    """Return the suites of ``conf/``."""
    return _loader(root, env, {})["suites"]
