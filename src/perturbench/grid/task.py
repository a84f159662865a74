"""A task of the grid with its configuration: the stamps of its runs, its files and its commands."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from perturbench.grid.processes import Job
from perturbench.grid.runs import Run, needs_training, stale_because
from perturbench.grid.task_data import known_inputs, record_inputs
from perturbench.pipelines.metrics import configured_metrics
from perturbench.pipelines.stage_code import data_code
from perturbench.pipelines.stamps import data_settings, embedding_name, prediction_stamp, training_stamp
from perturbench.provenance import Stamp

if TYPE_CHECKING:
    from collections.abc import Mapping

_DATA_SECTIONS = {
    "data": DataConfig,
    "preprocessing": PreprocessingConfig,
    "embedding": EmbeddingConfig,
    "splitter": SplitterConfig,
}
#: Parameters of one model. The stages that all models share do not take them.
_MODEL_PARAMETERS = ("hparams", "hyperparameters", "search_space")


@dataclass(frozen=True)
class Params:
    """The parameters of ``--params``: the texts ``key=value`` as typed (``items``), and parsed (``nested``)."""

    items: tuple[str, ...] = ()
    nested: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shared(self) -> Params:
        """Return the parameters that the stages of all models share."""
        items = tuple(item for item in self.items if re.split("[.=:]", item)[0] not in _MODEL_PARAMETERS)
        return Params(items, {name: value for name, value in self.nested.items() if name not in _MODEL_PARAMETERS})

    @property
    def of_model(self) -> dict[str, Any]:
        """Return the parameters of one model, nested."""
        return {name: value for name, value in self.nested.items() if name in _MODEL_PARAMETERS}


class TaskOfGrid:
    """A task with the parameters of the project and of the grid.

    Parameters
    ----------
    root
        The project's folder.
    name
        Name of the task.
    params
        Parameters of every run, from ``--params``.
    env
        The Kedro environment.
    variables
        Environment variables of the task's jobs.
    """

    def __init__(
        self, root: Path, name: str, params: Params, env: str | None = None, variables: Mapping[str, str] | None = None
    ) -> None:
        self.name, self._root, self._params, self._env, self._variables = name, root, params, env, variables or {}
        # Leave out parameters of a model: the loader would apply them to the default model, which may not have them.
        self._loader = _loader(root, env, {**params.shared.nested, "task": name})
        # Resolvers are global and belong to the latest loader, so resolve the catalog before another loader is created.
        self._catalog = self._loader["catalog"]
        given = self._loader["parameters"]
        self._data_sections = {section: kind(**given[section]) for section, kind in _DATA_SECTIONS.items()}
        self.title: str = given["title"]
        self._of_models: dict[str, dict[str, Any]] = {}

    def check(self, model: str) -> None:
        """Raise if a model cannot be run on the task.

        Raises
        ------
        PerturbenchError
            If the model is unknown, or does not have the requested hyperparameters.
        ValidationError
            If a parameter has a wrong value.
        """
        self.expected_stamp(Run(self.name, model, 0), {})
        configured_metrics(EvaluationConfig(**self._parameters(model)["evaluation"]))

    def path(self, dataset: str) -> Path:
        """Return the file, or the folder of partitions, of a catalog entry of the task."""
        entry = self._catalog[dataset]
        return self._root / (entry.get("filepath") or entry["path"])

    def prediction_of(self, run: Run) -> Path:
        """Return the file of a run's prediction."""
        suffix = self._catalog["predictions"]["filename_suffix"]
        return self.path("predictions") / run.model / f"seed{run.seed}{suffix}"

    def inputs(self) -> tuple[dict[str, str] | None, str]:
        """Return the fingerprints of the task's data; if it is missing or stale, return ``None`` and the reason."""
        files = self._files()
        return known_inputs(self._record, self._data_stamp(), files) if files else (None, "it does not exist yet")

    def record_inputs(self) -> dict[str, str]:
        """Compute, store and return the fingerprints of data that has just been made."""
        files = self._files()
        if files is None:
            raise PerturbenchError(f"the data of '{self.name}' is not on disk; kedro benchmark needs local files.")
        return record_inputs(self._record, self._data_stamp(), files, self.path("prepared"), self.path("split"))

    def stale_because(self, run: Run, inputs: Mapping[str, str]) -> str | None:
        """Return why the prediction of a run is missing or stale; ``None`` if it is up to date."""
        return stale_because(self.expected_stamp(run, inputs), self.prediction_of(run))

    def expected_stamp(self, run: Run, inputs: Mapping[str, str]) -> Stamp:
        """Return the stamp that a new prediction of a run would have."""
        given = self._parameters(run.model)
        data, trainer = DataConfig(**given["data"]), TrainerConfig(**given["trainer"])
        names = ["cells", "split"] + ([embedding_name(data.embedding_key)] if data.embedding_key else [])
        used = {name: inputs.get(name, "") for name in names}
        trained = training_stamp(used, data, trainer, given["model_target"], given["hparams"], **asdict(run))
        return prediction_stamp(trained, PredictionConfig(**given["prediction"]))

    def data_job(self) -> Job:
        """Return the job that makes the task's data."""
        return replace(self._job("data", "ingestion,splitting,preprocessing", self._params.shared), fork=False)

    def run_job(self, run: Run, inputs: Mapping[str, str] | None) -> Job:
        """Return the job of a run: train and predict, or only predict if the checkpoint is up to date."""
        job = self._job(f"{run.model}-seed{run.seed}", "modeling", self._params, model=run.model, seed=run.seed)
        if inputs and self._is_trained(run, inputs):
            job = replace(job, arguments=(*job.arguments, "--nodes=modeling.predict"))
        return replace(job, name=run.name)

    def report_job(self) -> Job:
        """Return the job that evaluates and reports the task."""
        return self._job("report", "evaluation,reporting", self._params.shared)

    def _job(self, name: str, pipelines: str, params: Params, **chosen: Any) -> Job:
        items = [f"{key}={value}" for key, value in {"task": self.name, **chosen}.items()]
        arguments = ["run", f"--pipelines={pipelines}", f"--params={','.join([*items, *params.items])}"]
        arguments += [f"--env={self._env}"] if self._env else []
        log = self.path("report").parent / "logs" / f"{name}.log"
        return Job(f"{self.name}: {name}", tuple(arguments), self._root, log, self._variables)

    def _is_trained(self, run: Run, inputs: Mapping[str, str]) -> bool:
        """Return whether the checkpoint of a run is up to date, judged by the stamp of the prediction that it made."""
        checkpoint = self.path("checkpoint").parents[1] / run.model / f"seed{run.seed}.ckpt"
        prediction = self.prediction_of(run)
        if not (checkpoint.is_file() and prediction.is_file()) or _changed(checkpoint) > _changed(prediction):
            return False
        return not needs_training(self.expected_stamp(run, inputs), prediction)

    def _parameters(self, model: str) -> dict[str, Any]:
        """Return the parameters of a model's runs, which are the same for all seeds."""
        if model not in self._of_models:
            self._of_models[model] = self._loader.of_a_run(model=model, **self._params.of_model)
        return self._of_models[model]

    @property
    def _record(self) -> Path:
        return self.path("split").parent / "grid.json"

    def _data_stamp(self) -> Stamp:
        """Return the stamp that newly made data would have; it names an embedding only if cells are embedded."""
        embedding = self._data_sections["embedding"]
        settings = {name: section for name, section in self._data_sections.items() if name != "embedding"}
        data = self._data_sections["data"]
        settings |= {"data": data_settings(data), "data source": data.source}
        settings |= {"embedding": embedding} if embedding.kind else {}
        return Stamp.make(self.name, settings=settings, code=data_code(embedding.kind))

    def _files(self) -> list[Path] | None:
        """Return the files of the task's data and of its source; ``None`` if one of them is missing."""
        manifest = self.path("raw")
        if not manifest.is_file():
            return None
        splitter, embedding = self._data_sections["splitter"], self._data_sections["embedding"]
        files = [Path(json.loads(manifest.read_text())["path"])]
        files += [self.path(name) for name in ("curated", "split", "prepared")]
        files += [Path(splitter.path or "")] if splitter.method == "csv" else []
        files += [Path(embedding.checkpoint)] if embedding.kind == "scgpt" else []
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
