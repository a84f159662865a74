"""The hyperparameter search."""

from kedro.pipeline import Node, Pipeline

from perturbench.pipelines.hpo.nodes import choose, search


def create_pipeline(**_: object) -> Pipeline:
    """Return the stage: ``prepared``, ``split`` -> ``trials`` -> ``tuned``."""
    return Pipeline(
        [
            Node(
                search,
                [
                    "prepared",
                    "split",
                    "params:data",
                    "params:trainer",
                    "params:evaluation",
                    "params:prediction",
                    "params:hpo",
                    "params:model_target",
                    "params:hparams",
                    "params:search_space",
                    "params:task",
                    "params:model",
                    "params:seed",
                ],
                "trials",
                name="search",
            ),
            Node(choose, ["trials", "params:task", "params:model"], "tuned", name="choose"),
        ],
        namespace="hpo",
        prefix_datasets_with_namespace=False,
    )
