"""One MLflow run per Kedro run: its parameters, Lightning's curves, Optuna's trials and the models' scores.

MLflow takes seconds to import, so it is imported when a run is started and nowhere else.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from pydantic import ConfigDict

from perturbench.errors import without_secrets
from perturbench.parameters import Parameters

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from lightning.pytorch.loggers import MLFlowLogger

_BATCH = 100  # largest number of parameters that MLflow accepts in one call
#: Mappings whose keys are values of the user (drugs, files, states). Each is logged whole, as one parameter.
_FREE_MAPPINGS = (".rename_perturbations", ".published", ".perturbations_per_state")


class TrackingConfig(Parameters):
    """The settings of ``mlflow.yml``: where MLflow stores runs, and how it names them."""

    model_config = ConfigDict(title="mlflow.yml")  # messages about wrong values name the file

    tracking_uri: str
    artifacts: str | None = None
    experiment: str
    run_name: str


class RunTracker:
    """The MLflow run of one Kedro run, started when there is something to record; until then parameters are collected.

    Parameters
    ----------
    config
        Store, experiment and name of the run.
    tags
        Tags of the run, for example the pipelines and the environment.
    """

    def __init__(self, config: TrackingConfig, tags: dict[str, str]) -> None:
        self._config = config
        self._tags = {name: without_secrets(text) for name, text in tags.items()}
        self._run_id: str | None = None
        self._params: dict[str, Any] = {}
        self._n_logged = 0

    @property
    def started(self) -> bool:
        """Whether there is a run to log to."""
        return self._run_id is not None

    def start(self) -> None:
        """Start the run, unless it has started, and log the parameters collected so far.

        If the caller has an active run, as in a notebook, this one is its child.
        """
        if self.started:
            return
        import mlflow

        parent = mlflow.active_run()
        run = mlflow.start_run(
            run_name=self._config.run_name,
            experiment_id=_experiment_id(self._config) if parent is None else parent.info.experiment_id,
            nested=True,
            tags=self._tags,
        )
        self._run_id = run.info.run_id
        self._log_new_params()

    def log_params(self, params: dict[str, Any]) -> None:
        """Log parameters; a section becomes one flat name per value, for example ``trainer.max_epochs``."""
        for name, value in params.items():
            for flat_name, flat_value in _flatten(name, _plain(value)):
                self._params.setdefault(flat_name, flat_value)
        if self.started:
            self._log_new_params()

    def log_leaderboard(self, leaderboard: pd.DataFrame) -> None:
        """Log each model's mean scores as metrics named ``<model>/<metric>``, if the run has started."""
        for row in leaderboard.to_dict("records") if self.started else ():
            model = _mlflow_name(row.pop("model"))
            log_metrics({f"{model}/{k}": v for k, v in row.items() if isinstance(v, float) and v == v})

    def end(self, status: str) -> None:
        """End the run, and its children that are still open, as ``FINISHED`` or ``FAILED``."""
        while self.started:
            import mlflow

            active = mlflow.active_run()
            mlflow.end_run(status)
            if active is None or active.info.run_id == self._run_id:
                self._run_id = None

    def _log_new_params(self) -> None:
        import mlflow

        new = list(self._params.items())[self._n_logged :]
        for start in range(0, len(new), _BATCH):
            mlflow.log_params(dict(new[start : start + _BATCH]))
        self._n_logged = len(self._params)


def lightning_logger() -> MLFlowLogger | bool:
    """Return a logger into the active MLflow run; ``False`` if there is none."""
    run = _active_run()
    if run is None:
        return False
    import mlflow
    from lightning.pytorch.loggers import MLFlowLogger

    experiment = mlflow.get_experiment(run.info.experiment_id).name
    return MLFlowLogger(experiment_name=experiment, tracking_uri=mlflow.get_tracking_uri(), run_id=run.info.run_id)


@contextlib.contextmanager
def child_run(name: str, params: dict[str, Any]) -> Iterator[None]:
    """Open a run inside the active one and log its parameters; do nothing without an active run."""
    parent = _active_run()
    if parent is None:
        yield
        return
    import mlflow

    with mlflow.start_run(run_name=name, experiment_id=parent.info.experiment_id, nested=True):
        mlflow.log_params(params)
        yield


def log_metrics(metrics: dict[str, float]) -> None:
    """Log metrics to the active run, if there is one."""
    if _active_run() is not None:
        import mlflow

        mlflow.log_metrics(metrics)


def _experiment_id(config: TrackingConfig) -> str:
    """Return the identifier of the experiment in the store of ``mlflow.yml``; create it if it does not exist."""
    import mlflow

    mlflow.set_tracking_uri(config.tracking_uri)
    with _lock_of_store(config.tracking_uri):
        # Fails if the experiment exists, also if another process has just created it; the last line then finds it.
        with contextlib.suppress(mlflow.MlflowException):
            return mlflow.create_experiment(config.experiment, artifact_location=config.artifacts)
        return mlflow.get_experiment_by_name(config.experiment).experiment_id


def _lock_of_store(tracking_uri: str) -> contextlib.AbstractContextManager[Any]:
    """Return a lock for the creation of a SQLite store; MLflow fails if two processes create its tables at once."""
    scheme = "sqlite:///"
    if not tracking_uri.startswith(scheme):
        return contextlib.nullcontext()
    file = Path(tracking_uri.removeprefix(scheme))
    file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{file}.lock")


def _active_run() -> Any:
    # If mlflow is not imported, no run is active; importing it to ask would take seconds.
    mlflow = sys.modules.get("mlflow")
    return mlflow.active_run() if mlflow else None


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _flatten(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, dict) or prefix.endswith(_FREE_MAPPINGS):
        text = json.dumps(value) if isinstance(value, dict) else str(value)
        return [(_mlflow_name(prefix), without_secrets(text))]
    return [pair for key, item in value.items() for pair in _flatten(f"{prefix}.{key}", item)]


def _mlflow_name(name: str) -> str:
    return re.sub(r"[^\w.\- /]", "_", name, flags=re.ASCII)[:250]
