"""The static site of kedro-viz: every stage one collapsible box, every dataset in its layer."""

import json


def test_viz_builds(kedro):
    kedro("viz", "build")
    graph = json.loads((kedro.root / "build/api/main").read_text())
    assert graph["layers"] == [
        "raw",
        "intermediate",
        "feature",
        "model_input",
        "primary",
        "models",
        "model_output",
        "reporting",
    ]
    boxes = {node["id"] for node in graph["nodes"] if node["type"] == "modularPipeline"}
    assert boxes == {"ingestion", "splitting", "preprocessing", "modeling", "evaluation", "reporting"}
    datasets = [node for node in graph["nodes"] if node["type"] == "data"]
    assert {node["name"] for node in datasets} >= {
        "curated",
        "prepared",
        "split",
        "split_checks",
        "predictions",
        "leaderboard",
        "leaderboard_plot",
        "scores_plot",
        "similarity_plot",
        "examples_plot",
        "series_plot",
        "training_plot",
    }
    assert all(node["layer"] for node in datasets)
