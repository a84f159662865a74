"""The hyperparameter search."""

from kedro.pipeline import Node, Pipeline

from perturbench.pipelines.hpo.nodes import choose, plot_history, plot_importance, search


def create_pipeline(**_: object) -> Pipeline:
    """Return the stage: ``prepared``, ``split`` -> ``trials`` -> ``tuned`` and the figures of the search."""
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
            Node(
                plot_history,
                ["trials", "params:title", "params:model"],
                "search_history",
                name="plot_history",
            ),
            Node(
                plot_importance,
                ["trials", "params:search_space", "params:title", "params:model"],
                "search_importance",
                name="plot_importance",
            ),
        ],
        namespace="hpo",
        prefix_datasets_with_namespace=False,
    )
