"""Project hooks: explain missing inputs, print the leaderboard at the end of a run, track runs in MLflow."""

from __future__ import annotations

import sys
from collections import Counter
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl

from perturbench.errors import PerturbenchError
from perturbench.startup import finish_imports

if TYPE_CHECKING:
    from kedro.io import DataCatalog
    from kedro.pipeline import Pipeline
    from kedro.pipeline.node import Node

    from perturbench.datasets import AnnDataDataset
    from perturbench.pipelines.tracking import RunTracker


class ProjectHooks:
    """Make the user's own models and metrics importable from the project's folder."""

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Append the folder to ``sys.path``; installed packages come first."""
        if str(context.project_path) not in sys.path:
            sys.path.append(str(context.project_path))


class InputHooks:
    """Report missing inputs and unknown metrics before anything is computed."""

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Refuse unknown metrics and missing inputs; name the command that makes each input."""
        if "params:evaluation" in pipeline.inputs():
            from perturbench.pipelines.metrics import configured_metrics

            configured_metrics(catalog.load("params:evaluation"))
        for name in _EDITED & pipeline.all_outputs():
            if catalog.exists(name):
                raise PerturbenchError(
                    f"'{name}' exists already, and may have been edited: {_path_of(catalog[name])}. Use it, delete it, "
                    "or name another file: --params=queries.path:<file>"
                )
        for name in sorted(pipeline.inputs()):
            if name.startswith("param") or catalog.exists(name):
                continue
            maker = next((stage for stage in _STAGES if name in _outputs_of(stage)), None)
            if maker is not None:
                raise PerturbenchError(
                    f"'{name}' does not exist yet: {_path_of(catalog[name])}. {_how_to_make(name, maker, catalog)}"
                )


class ImportHooks:
    """Import the libraries of a command's nodes at its start, see :mod:`perturbench.startup`.

    Parameters
    ----------
    tracking
        Whether trainings are tracked in MLflow.
    """

    def __init__(self, tracking: bool) -> None:
        self._tracking = tracking

    @hook_impl(trylast=True)
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        """Import the libraries after the other hooks have checked the inputs, and before data is loaded."""
        outputs, modules = pipeline.all_outputs(), []
        if outputs & {*_TRAINED, "predictions", "counterfactuals"}:
            modules = ["perturbench.training.fitting", "perturbench.training.prediction"]
        if outputs & _TRAINED and self._tracking:
            modules += ["mlflow", "lightning.pytorch.loggers"]
        finish_imports(modules)


class ReadOnceHooks:
    """Read cells that several nodes of a run need once, not once per node."""

    _kept: tuple[AnnDataDataset, ...] = ()

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Let the datasets that several nodes load keep their cells; those on disk are read in blocks anyway."""
        from perturbench.datasets import AnnDataDataset

        uses = Counter(name for node in pipeline.nodes for name in node.inputs)
        found = (catalog[name] for name, n_uses in uses.items() if n_uses > 1 and not name.startswith("param"))
        self._kept = tuple(one for one in found if isinstance(one, AnnDataDataset) and not one.backed)
        for dataset in self._kept:
            dataset.keep_loaded(True)

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Free the cells."""
        self._free()

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Free the cells."""
        self._free()

    def _free(self) -> None:
        for dataset in self._kept:
            dataset.keep_loaded(False)
        self._kept = ()


class SummaryHooks:
    """Print the leaderboard and the paths of reports and predictions at the end of the run that made them."""

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Print the leaderboard, and the paths of the files that the run made."""
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
    """Record an MLflow run for each Kedro run that trains, searches or scores something new.

    The MLflow run starts when the first of these happens, so that other Kedro runs do not import MLflow, which is slow.
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
#: Files that a pipeline makes for the user to edit. They are never overwritten.
_EDITED = {"query_table"}


def _how_to_make(name: str, maker: str, catalog: DataCatalog) -> str:
    chosen = ",".join(f"{key}:{catalog.load(f'params:{key}')}" for key in ("task", "model", "seed"))
    command = f"kedro run --pipeline={maker} --params={chosen}"
    if name in _EDITED:
        return f"Name your file with --params=queries.path:<file>, or make a template to edit: {command}"
    return f"The {maker} pipeline makes it: {command}, or run the whole chain: kedro run --params={chosen}"


def _path_of(dataset: Any) -> Any:
    return getattr(dataset, "_filepath", None) or getattr(dataset, "_path", "")


def _outputs_of(stage: str) -> set[str]:
    return import_module(f"perturbench.pipelines.{stage}").create_pipeline().all_outputs()
