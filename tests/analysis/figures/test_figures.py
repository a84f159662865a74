"""Figures: what they show, not how they look."""

import numpy as np
import pandas as pd
import pytest
from tests.analysis.scored import METRICS, make_board, make_scores

from perturbench.analysis import figures
from perturbench.analysis.figures import scores as score_figures
from perturbench.analysis.figures.series import position_of
from perturbench.analysis.figures.similarities import MAX_MODELS, MAX_STATES
from perturbench.analysis.figures.theme import COLOURS, MAX_PANELS, shorten
from perturbench.analysis.figures.training import MAX_EPOCHS
from perturbench.analysis.metrics.registry import resolve_metrics


def texts(figure):
    return [annotation.text for annotation in figure.layout.annotations]


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
    assert texts(figure) == ["rmse_average ↓", "cosine_logfc ↑"]


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
    assert len(texts(figures.plot_scores(scores, metrics, ["a"]))) == MAX_PANELS


def test_long_names_that_look_alike_stay_apart():
    names = ["a_rather_long_name_of_one_model_here_1", "a_rather_long_name_of_two_model_here_1"]
    assert shorten(names[0]) == shorten(names[1])
    board = make_board(make_scores(dict.fromkeys(names, (0.2, 0.8))))
    assert len(set(figures.plot_ranking(board, METRICS).data[0].y)) == 2


def similarity(states=("s1",), value=0.5):
    rows = [
        (state, one, other, float(one == other), 1.0 if one == other else value)
        for state in states
        for one in "BAC"
        for other in "BAC"
    ]
    return pd.DataFrame(rows, columns=["state", "perturbation", "other", "observed", "predicted"])


def test_observed_similarities_are_beside_the_predicted_ones():
    figure = figures.plot_similarities({"good": similarity(value=0.1), "collapsed": similarity(value=1.0)})
    observed, good, collapsed = figure.data
    assert np.array_equal(observed.z, np.eye(3))
    assert good.z[0][1] == pytest.approx(0.1)
    assert np.all(np.asarray(collapsed.z) == 1)
    assert list(good.x) == list(good.y) == ["B", "A", "C"], "the order of the table, which is a clustering"
    assert [text.split("<")[0] for text in texts(figure)] == ["observed, s1", "good", "collapsed"]
    assert "mean 1.00" in texts(figure)[2]


def test_similarities_are_bounded_in_number():
    tables = {f"m{i}": similarity([f"s{j}" for j in range(7)]) for i in range(30)}
    figure = figures.plot_similarities(tables)
    assert len(figure.data) == MAX_STATES * (1 + MAX_MODELS)
    assert not figures.plot_similarities({}).data
    assert not figures.plot_similarities({"one perturbation per state": tables["m0"].head(0)}).data


def test_training_curves_are_of_every_seed_and_thinned():
    table = pd.DataFrame({"epoch": range(1, 1001), "train_loss": 1.0, "val_loss": np.linspace(2, 1, 1000)})
    figure = figures.plot_training({"a": {"a/seed0": table, "a/seed1": table}, "b": {"b/seed0": table.head(1)}})
    assert texts(figure) == ["a", "b"]
    lines = [trace for trace in figure.data if trace.name == "validation"]
    assert len(lines) == 3
    assert 100 < len(lines[0].x) <= MAX_EPOCHS
    kept = [trace for trace in figure.data if trace.name == "epoch that is kept"]
    assert kept[0].x[0] == 1000
    assert [trace.showlegend for trace in kept] == [True, False, False]


def test_losses_below_zero_are_not_on_a_logarithmic_axis():
    table = pd.DataFrame({"epoch": [1, 2], "train_loss": [1.0, 0.5], "val_loss": [1.0, -0.5]})
    assert figures.plot_training({"a": {"0": table}}).layout.yaxis.type != "log"
    assert figures.plot_training({"a": {"0": table.abs()}}).layout.yaxis.type == "log"


def summary(imbalance, cells):
    rows = [
        ("s1", "train", cells, 0.9),
        ("s2", "train", cells, 0.9),
        ("s1", "test", 5, 0.8),
        ("s1", "used", 9, imbalance),
    ]
    return pd.DataFrame(rows, columns=["cell_type", "split", "cells", "imbalance"])


def test_where_a_task_is_in_its_series():
    assert position_of(summary(0.25, 40), "imbalance") == 0.25
    assert position_of(summary(0.25, 40), "training_cells") == 80


def test_series_is_drawn_from_left_to_right():
    boards = {"large": make_board(make_scores({"a": (0.2, 0.8), "b": (0.5, 0.5)}))}
    boards["small"] = make_board(make_scores({"a": (0.4, 0.6)}))
    positions = {"large": 2000.0, "small": 100.0}
    figure = figures.plot_series(boards, positions, "training_cells", METRICS, ["a", "b", "absent"])
    assert [trace.name for trace in figure.data] == ["a", "b", "a", "b"]
    assert list(figure.data[0].x) == [100, 2000]
    assert figure.data[0].y[0] > figure.data[0].y[1]
    assert list(figure.data[1].x) == [2000]
    assert figure.layout.xaxis.type == "log"
    assert not figures.plot_series({"large": boards["large"]}, positions, "imbalance", METRICS, ["a"]).data


def test_series_has_as_many_models_as_colours():
    board = make_board(make_scores({f"m{i}": (0.2 + i, 0.8) for i in range(30)}))
    figure = figures.plot_series(
        {"x": board, "y": board}, {"x": 0.0, "y": 0.5}, "imbalance", METRICS, list(board["model"])
    )
    assert len({trace.line.color for trace in figure.data}) == len(COLOURS)
    assert [trace.name for trace in figure.data][:2] == ["m0", "m1"]
