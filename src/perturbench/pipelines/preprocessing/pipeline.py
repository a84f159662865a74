"""The preprocessing stage."""

from kedro.pipeline import Node, Pipeline

from perturbench.pipelines.preprocessing.nodes import prepare_cells


def create_pipeline(**_: object) -> Pipeline:
    """Return the stage: ``curated``, ``split`` -> ``prepared``."""
    return Pipeline(
        [
            Node(
                prepare_cells,
                ["curated", "split", "params:data", "params:preprocessing", "params:task"],
                "prepared",
                name="prepare_cells",
            )
        ],
        namespace="preprocessing",
        prefix_datasets_with_namespace=False,
    )
