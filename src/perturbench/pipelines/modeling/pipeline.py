"""The modeling stage."""

from kedro.pipeline import Node, Pipeline

from perturbench.pipelines.modeling.nodes import predict, train


def create_pipeline(**_: object) -> Pipeline:
    """Return the stage: ``prepared``, ``split`` -> ``checkpoint``, ``training_losses`` -> ``predictions``."""
    return Pipeline(
        [
            Node(
                train,
                [
                    "prepared",
                    "split",
                    "params:data",
                    "params:trainer",
                    "params:prediction",
                    "params:model_target",
                    "params:hparams",
                    "params:task",
                    "params:model",
                    "params:seed",
                    "params:unfinished_path",
                    "params:command",
                ],
                ["checkpoint", "training_losses"],
                name="train",
            ),
            Node(
                predict,
                [
                    "checkpoint",
                    "prepared",
                    "split",
                    "params:data",
                    "params:trainer",
                    "params:prediction",
                    "params:model_target",
                    "params:command",
                ],
                "predictions",
                name="predict",
            ),
        ],
        namespace="modeling",
        prefix_datasets_with_namespace=False,
    )
