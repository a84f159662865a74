"""The preprocessing stage."""

from kedro.pipeline import Node, Pipeline

from perturbench.pipelines.preprocessing.nodes import embed_cells, prepare_cells


def create_pipeline(**_: object) -> Pipeline:
    """Return the stage: ``curated``, ``split`` -> ``embeddings`` -> ``prepared``."""
    return Pipeline(
        [
            Node(
                embed_cells,
                ["curated", "known_embeddings", "params:embedding", "params:task"],
                "embeddings",
                name="embed_cells",
            ),
            Node(
                prepare_cells,
                [
                    "curated",
                    "split",
                    "params:data",
                    "params:preprocessing",
                    "params:task",
                    "params:embedding",
                    "embeddings",
                ],
                "prepared",
                name="prepare_cells",
            ),
        ],
        namespace="preprocessing",
        prefix_datasets_with_namespace=False,
    )
