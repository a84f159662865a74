"""The figure of a series: what it shows, not how it looks."""

import pandas as pd
from tests.analysis.scored import METRICS, make_board, make_scores

from perturbench.analysis import figures
from perturbench.analysis.figures.series import position_of
from perturbench.analysis.figures.theme import COLOURS


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
