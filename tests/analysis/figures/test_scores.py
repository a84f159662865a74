"""Figures of scores: what they show, not how they look."""

import numpy as np
import pandas as pd
import pytest
from tests.analysis.scored import METRICS, make_board, make_scores, titles_of

from perturbench.analysis import figures
from perturbench.analysis.figures import scores as score_figures
from perturbench.analysis.figures.theme import MAX_PANELS
from perturbench.analysis.metrics.registry import resolve_metrics


def test_ranking_shows_means_intervals_and_anchors():
    board = make_board(make_scores({"a": (0.2, 0.8), "b": (0.3, 0.7)}))
    anchors = make_board(make_scores({"mean_response": (0.4, 0.6), "control": (0.5, np.nan)}))
    figure = figures.plot_ranking(board, METRICS, anchors)
    points = figure.data[0]
    assert list(points.y) == ["a", "b"]
    assert list(points.x) == board["rmse_average"].tolist()
    assert points.x + points.error_x.array == pytest.approx(board["rmse_average_high"].to_numpy())
    lines = [(trace.name, trace.showlegend) for trace in figure.data if trace.name]
    assert lines == [("control", True), ("mean_response", True), ("mean_response", False)]
    assert titles_of(figure) == ["rmse_average ↓", "cosine_logfc ↑"]


def test_boxes_are_of_perturbations_not_of_seeds():
    scores = make_scores({"a": (0.2, 0.8), "b": (0.3, 0.7)}, seeds=(0, 1))
    figure = figures.plot_scores(scores, METRICS, ["b", "a"])
    assert [trace.name for trace in figure.data] == ["b", "a", "b", "a"]
    assert len(figure.data[0].x) == 20
    assert figure.data[0].text[0] == "P0, s1"
    assert list(figure.layout.yaxis.categoryarray) == ["b", "a"]


def test_many_perturbations_become_quartiles(monkeypatch):
    monkeypatch.setattr(score_figures, "MAX_POINTS", 10)
    scores = make_scores({"a": (0.2, 0.8)})
    box = figures.plot_scores(scores, METRICS, ["a"]).data[0]
    values = scores.loc[scores["metric"] == "rmse_average", "value"]
    assert box.x is None
    assert [box.q1[0], box.median[0], box.q3[0]] == pytest.approx(values.quantile([0.25, 0.5, 0.75]).tolist())


def test_values_of_the_whole_split_have_no_box():
    whole = resolve_metrics(["matrix_distance_logfc"])
    scores = pd.DataFrame(
        {"model": ["a"], "metric": "matrix_distance_logfc", "perturbation": "(all)", "cell_type": "(all)", "value": 3.0}
    )
    assert not figures.plot_scores(scores, whole, ["a"]).data


def test_more_metrics_than_fit_are_left_out():
    scores = make_scores({"a": (0.2, 0.8)})
    metrics = resolve_metrics("all")[: MAX_PANELS + 3]
    scores = pd.concat([scores[scores["metric"] == "rmse_average"].assign(metric=metric.name) for metric in metrics])
    assert len(titles_of(figures.plot_scores(scores, metrics, ["a"]))) == MAX_PANELS
