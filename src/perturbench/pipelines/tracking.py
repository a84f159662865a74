"""Lightning and Optuna inside the MLflow run of a Kedro session."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning.pytorch.loggers import MLFlowLogger


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
    if _active_run() is None:
        yield
        return
    import mlflow

    with mlflow.start_run(run_name=name, nested=True):
        mlflow.log_params(params)
        yield


def log_metrics(metrics: dict[str, float]) -> None:
    """Log metrics to the active run, if there is one."""
    if _active_run() is not None:
        import mlflow

        mlflow.log_metrics(metrics)


def _active_run() -> Any:
    # Without tracking nobody has imported mlflow, and its import takes seconds.
    mlflow = sys.modules.get("mlflow")
    return mlflow.active_run() if mlflow else None
