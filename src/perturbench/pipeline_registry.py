"""The pipelines of the project."""

from kedro.framework.project import find_pipelines
from kedro.pipeline import Pipeline

#: Pipelines that run only when they are named; all others form the default chain.
OPTIONAL = {"hpo", "prediction", "template"}


def register_pipelines() -> dict[str, Pipeline]:
    """Return every stage by name, and the whole chain as ``__default__``."""
    stages = find_pipelines(raise_errors=True)
    stages.pop("__default__", None)
    chain = [pipeline for name, pipeline in stages.items() if name not in OPTIONAL]
    return {**stages, "__default__": sum(chain, Pipeline([]))}
