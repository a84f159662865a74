"""Project hooks: explain missing inputs, print the leaderboard at the end of a run, complete the tracking."""

from __future__ import annotations

import json
import re
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl

from perturbench.errors import PerturbenchError

if TYPE_CHECKING:
    from kedro.io import DataCatalog
    from kedro.pipeline import Pipeline


class ProjectHooks:
    """Make the user's own models and metrics importable from the project's folder."""

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Append the folder to the path, after everything that is installed."""
        if str(context.project_path) not in sys.path:
            sys.path.append(str(context.project_path))


class InputHooks:
    """Say what is missing or misspelled before anything is computed."""

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Refuse unknown metrics and missing inputs; name the command that makes each input."""
        if "params:evaluation" in pipeline.inputs():
            from perturbench.pipelines.metrics import configured_metrics

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
    """Print the leaderboard and the paths of reports and predictions at the end of the run that made them."""

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Print what the run made."""
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
    """Do what kedro-mlflow leaves undone: log typed parameters and the leaderboard, and close the run."""

    @hook_impl
    def before_node_run(self, inputs: dict[str, Any]) -> None:
        """Log typed parameters flat; the plugin would log each section as one text."""
        import mlflow

        if mlflow.active_run():
            for name, value in inputs.items():
                if name.startswith("params:") and hasattr(value, "model_dump"):
                    mlflow.log_params(dict(_flatten(name.removeprefix("params:"), value.model_dump(mode="json"))))

    @hook_impl
    def after_node_run(self, outputs: dict[str, Any]) -> None:
        """Log each model's scores as metrics."""
        import mlflow

        if mlflow.active_run() and "leaderboard" in outputs:
            for row in outputs["leaderboard"].to_dict("records"):
                model = _mlflow_name(row.pop("model"))
                metrics = {f"{model}/{k}": v for k, v in row.items() if isinstance(v, float) and v == v}
                mlflow.log_metrics(metrics)

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """End the run, which the plugin leaves open."""
        _end_runs("FINISHED")

    @hook_impl(trylast=True)
    def on_pipeline_error(self) -> None:
        """End the run as failed."""
        _end_runs("FAILED")


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
        return f"Name a file of yours with --params=queries.path:<file>, or make one to edit: {command}"
    return f"The {maker} pipeline makes it: {command}, or run the whole chain: kedro run --params={chosen}"


def _path_of(dataset: Any) -> Any:
    return getattr(dataset, "_filepath", None) or getattr(dataset, "_path", "")


def _mlflow_name(name: str) -> str:
    return re.sub(r"[^\w.\- /]", "_", name, flags=re.ASCII)[:250]


def _outputs_of(stage: str) -> set[str]:
    return import_module(f"perturbench.pipelines.{stage}").create_pipeline().all_outputs()


def _end_runs(status: str) -> None:
    import mlflow

    while mlflow.active_run():
        mlflow.end_run(status)


def _flatten(prefix: str, value: Any) -> list[tuple[str, Any]]:
    # The keys of a free mapping, for example renamed drugs, are values and would be no names of parameters.
    if not isinstance(value, dict) or prefix.endswith((".rename", ".published", ".perturbations_per_state")):
        return [(_mlflow_name(prefix), json.dumps(value) if isinstance(value, dict) else value)]
    return [pair for key, item in value.items() for pair in _flatten(f"{prefix}.{key}", item)]
