"""The evaluation stage."""

from kedro.pipeline import Node, Pipeline

from perturbench.pipelines.evaluation.nodes import evaluate_predictions, rank_models


def create_pipeline(**_: object) -> Pipeline:
    """Return the stage: ``predictions``, ``prepared``, ``split`` -> ``scores`` -> ``leaderboard``."""
    return Pipeline(
        [
            Node(
                evaluate_predictions,
                [
                    "predictions",
                    "known_scores",
                    "prepared",
                    "split",
                    "params:data",
                    "params:prediction",
                    "params:evaluation",
                    "params:task",
                ],
                ["scores", "evaluation_log", "anchor_scores", "similarities"],
                name="evaluate_predictions",
            ),
            Node(
                rank_models,
                ["scores", "evaluation_log", "anchor_scores", "params:evaluation"],
                ["leaderboard", "anchors", "comparisons", "baseline_tests", "state_scores"],
                name="rank_models",
            ),
        ],
        namespace="evaluation",
        prefix_datasets_with_namespace=False,
    )
