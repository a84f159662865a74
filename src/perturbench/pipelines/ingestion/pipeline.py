"""The ingestion stage."""

from kedro.pipeline import Node, Pipeline

from perturbench.pipelines.ingestion.nodes import curate, describe, fetch


def create_pipeline(**_: object) -> Pipeline:
    """Return the stage: ``params:data`` -> ``raw`` -> ``curated`` -> ``data_card``."""
    return Pipeline(
        [
            Node(fetch, ["params:data", "params:task"], "raw", name="fetch"),
            Node(curate, ["raw", "params:data", "params:task"], "curated", name="curate"),
            Node(describe, ["curated", "raw", "params:data", "params:title"], "data_card", name="describe"),
        ],
        namespace="ingestion",
        prefix_datasets_with_namespace=False,
    )
