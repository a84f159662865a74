"""The reporting stage."""

from kedro.pipeline import Node, Pipeline

from perturbench.pipelines.reporting.examples import plot_example_pairs
from perturbench.pipelines.reporting.nodes import (
    plot_collapse,
    plot_leaderboard,
    plot_losses,
    plot_perturbations,
    plot_tasks,
    write_report,
)


def create_pipeline(**_: object) -> Pipeline:
    """Return the stage: tables of the other stages -> figures -> ``report``."""
    return Pipeline(
        [
            Node(
                plot_leaderboard,
                ["leaderboard", "anchors", "params:evaluation"],
                "leaderboard_plot",
                name="plot_leaderboard",
            ),
            Node(
                plot_perturbations,
                ["scores", "evaluation_log", "leaderboard", "params:evaluation"],
                "scores_plot",
                name="plot_perturbations",
            ),
            Node(
                plot_collapse,
                ["similarities", "evaluation_log", "leaderboard"],
                "similarity_plot",
                name="plot_collapse",
            ),
            Node(
                plot_example_pairs,
                [
                    "prepared_on_disk",
                    "split",
                    "predictions_on_disk",
                    "scores",
                    "evaluation_log",
                    "leaderboard",
                    "params:data",
                    "params:prediction",
                    "params:evaluation",
                    "params:reporting",
                ],
                "examples_plot",
                name="plot_example_pairs",
            ),
            Node(
                plot_losses, ["training_losses", "evaluation_log", "leaderboard"], "training_plot", name="plot_losses"
            ),
            Node(
                plot_tasks,
                ["leaderboards", "split_summaries", "leaderboard", "params:evaluation", "params:reporting"],
                "series_plot",
                name="plot_tasks",
            ),
            Node(
                write_report,
                [
                    "scores",
                    "leaderboard",
                    "anchors",
                    "comparisons",
                    "baseline_tests",
                    "state_scores",
                    "leaderboard_plot",
                    "scores_plot",
                    "similarity_plot",
                    "examples_plot",
                    "series_plot",
                    "training_plot",
                    "data_card",
                    "split_summary",
                    "split_checks",
                    "evaluation_log",
                    "leaderboards",
                    "params:evaluation",
                    "params:reporting",
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
