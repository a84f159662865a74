"""Project hooks: missing inputs are explained, the leaderboard ends a run, tracking is completed."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl

from perturbench.errors import PerturbenchError

if TYPE_CHECKING:
    from kedro.io import DataCatalog
    from kedro.pipeline import Pipeline
    from kedro.pipeline.node import Node

    from perturbench.pipelines.tracking import RunTracker


class ProjectHooks:
    """Make modules in the project's folder importable: models and metrics of the user's own."""

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Add the folder, after everything that is installed."""
        if str(context.project_path) not in sys.path:
            sys.path.append(str(context.project_path))


class InputHooks:
    """Say what is missing or misspelled before anything is computed."""

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Check the metrics' names, and the run's free inputs with the command that makes each."""
        if "params:evaluation" in pipeline.inputs():
            from perturbench.pipelines.evaluation.nodes import configured_metrics

            configured_metrics(catalog.load("params:evaluation"))
        for name in _EDITED & pipeline.all_outputs():
            if catalog.exists(name):
                raise PerturbenchError(
                    f"'{name}' is there already, and may have been edited: {_path_of(catalog[name])}. Use it, delete "
                    "it, or name another file: --params=queries.path:<file>"
                )
        for name in sorted(pipeline.inputs()):
            if name.startswith("param") or catalog.exists(name):
                continue
            maker = next((stage for stage in _STAGES if name in _outputs_of(stage)), None)
            if maker is not None:
                raise PerturbenchError(
                    f"'{name}' is not there yet: {_path_of(catalog[name])}. {_how_to_make(name, maker, catalog)}"
                )


class SummaryHooks:
    """Print the leaderboard, and where more is to be seen, at the end of a run that made it."""

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Print."""
        outputs = pipeline.all_outputs()
        if "leaderboard" in outputs:
            from perturbench.analysis.leaderboard import print_leaderboard

            print_leaderboard(catalog.load("leaderboard"), catalog.load("params:title"), catalog.load("anchors"))
        if "report" in outputs:
            print(f"report: {catalog['report']._filepath}")
        for name in ("query_table", "counterfactuals"):
            if name in outputs:
                print(f"{name}: {catalog[name]._filepath}")


class TrackingHooks:
    """Keep an MLflow run of each Kedro run that trains, searches or scores something new.

    The run is started when the first of these happens, so that other runs do not import MLflow, which takes seconds.
    """

    _loader: Any = None
    _tracker: RunTracker | None = None

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Remember where ``mlflow.yml`` is read from."""
        self._loader = context.config_loader

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline) -> None:
        """Read ``mlflow.yml`` if the run may be tracked, so that a mistake in it is found before anything runs."""
        self._tracker = None
        if pipeline.all_outputs() & {*_TRAINED, "scores"}:
            from perturbench.pipelines.tracking import RunTracker, TrackingConfig

            tags = {name: str(value) for name, value in run_params.items() if value}
            self._tracker = RunTracker(TrackingConfig(**self._loader["mlflow"]), tags)

    @hook_impl
    def before_node_run(self, node: Node, inputs: dict[str, Any]) -> None:
        """Log the node's parameters; start the run if the node trains or searches."""
        if self._tracker is not None:
            prefix = "params:"
            params = {name.removeprefix(prefix): value for name, value in inputs.items() if name.startswith(prefix)}
            self._tracker.log_params(params)
            if _TRAINED & set(node.outputs):
                self._tracker.start()

    @hook_impl
    def after_node_run(self, outputs: dict[str, Any]) -> None:
        """Start the run if there are new scores; log each model's scores as metrics."""
        if self._tracker is not None:
            if outputs.get("scores"):
                self._tracker.start()
            if "leaderboard" in outputs:
                self._tracker.log_leaderboard(outputs["leaderboard"])

    @hook_impl
    def after_pipeline_run(self) -> None:
        """End the run."""
        self._end("FINISHED")

    @hook_impl
    def on_pipeline_error(self) -> None:
        """End the run as failed."""
        self._end("FAILED")

    def _end(self, status: str) -> None:
        if self._tracker is not None:
            self._tracker.end(status)
            self._tracker = None


#: Outputs of the nodes that train a model or search hyperparameters.
_TRAINED = {"checkpoint", "trials"}
_STAGES = (
    *("ingestion", "splitting", "preprocessing", "modeling", "evaluation", "reporting"),
    *("hpo", "template", "prediction"),
)
#: What a pipeline makes for the user to edit, and never overwrites.
_EDITED = {"query_table"}


def _how_to_make(name: str, maker: str, catalog: DataCatalog) -> str:
    chosen = ",".join(f"{key}:{catalog.load(f'params:{key}')}" for key in ("task", "model", "seed"))
    command = f"kedro run --pipeline={maker} --params={chosen}"
    if name in _EDITED:
        return f"Name a file of yours with --params=queries.path:<file>, or make one to edit: {command}"
    return f"The {maker} pipeline makes it: {command}, or run the whole chain: kedro run --params={chosen}"


def _path_of(dataset: Any) -> Any:
    return getattr(dataset, "_filepath", None) or getattr(dataset, "_path", "")


def _outputs_of(stage: str) -> set[str]:
    return import_module(f"perturbench.pipelines.{stage}").create_pipeline().all_outputs()
