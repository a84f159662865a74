"""The reporting stage."""

from kedro.pipeline import Node, Pipeline

from perturbench.pipelines.reporting.nodes import plot_leaderboard, write_report


def create_pipeline(**_: object) -> Pipeline:
    """Return the stage: ``scores``, ``leaderboard`` -> ``leaderboard_plot`` -> ``report``."""
    return Pipeline(
        [
            Node(
                plot_leaderboard,
                ["scores", "evaluation_log", "leaderboard", "params:evaluation", "params:title"],
                "leaderboard_plot",
                name="plot_leaderboard",
            ),
            Node(
                write_report,
                [
                    "scores",
                    "leaderboard",
                    "anchors",
                    "comparisons",
                    "leaderboard_plot",
                    "data_card",
                    "split_summary",
                    "split_checks",
                    "evaluation_log",
                    "params:evaluation",
                    "params:task",
                    "params:title",
                ],
                "report",
                name="write_report",
            ),
        ],
        namespace="reporting",
        prefix_datasets_with_namespace=False,
    )
