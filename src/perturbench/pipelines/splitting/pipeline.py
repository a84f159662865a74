"""The splitting stage."""

from kedro.pipeline import Node, Pipeline

from perturbench.pipelines.splitting.nodes import assign_split


def create_pipeline(**_: object) -> Pipeline:
    """Return the stage: ``curated`` -> ``split``, its summary and its checks."""
    return Pipeline(
        [
            Node(
                assign_split,
                ["curated", "params:data", "params:splitter", "params:task"],
                ["split", "split_summary", "split_checks"],
                name="assign_split",
            )
        ],
        namespace="splitting",
        prefix_datasets_with_namespace=False,
    )
