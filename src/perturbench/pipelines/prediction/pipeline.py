"""The prediction stage."""

from kedro.pipeline import Node, Pipeline

from perturbench.pipelines.prediction.nodes import predict_table


def create_pipeline(**_: object) -> Pipeline:
    """Return the stage: ``checkpoint``, ``query_table``, ``prepared``, ``split`` -> ``counterfactuals``."""
    return Pipeline(
        [
            Node(
                predict_table,
                [
                    "checkpoint",
                    "query_table",
                    "prepared",
                    "split",
                    "params:data",
                    "params:trainer",
                    "params:prediction",
                    "params:queries",
                    "params:model_target",
                ],
                "counterfactuals",
                name="predict_table",
            )
        ],
        namespace="prediction",
        prefix_datasets_with_namespace=False,
    )
