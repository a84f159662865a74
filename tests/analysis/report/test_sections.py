"""Sections of the report: what they say, and when they are left out."""

import re

import numpy as np
import pandas as pd
from tests.analysis.rendered import body, cells_of, leaderboard_of
from tests.analysis.scored import METRIC_NAMES, METRICS, make_board, make_scores

from perturbench.analysis import figures
from perturbench.analysis.report import render_page, sections
from perturbench.analysis.score_table import per_state


def test_best_is_marked_where_the_test_supports_it():
    page = leaderboard_of({"good": (0.2, 0.8), "bad": (0.3, 0.7)})
    assert len(cells_of(page, "best")) == 2
    assert not cells_of(page, "contender")


def test_no_best_where_models_cannot_be_told_apart():
    page = leaderboard_of({"one": (0.2, 0.8), "same": (0.2, 0.8), "bad": (0.3, 0.7)})
    assert not cells_of(page, "best")
    assert len(cells_of(page, "contender")) == 4, "both models on both metrics"
    assert re.search(r"not certain: \w+ has the best mean, but \w+ may be better", page)


def test_a_lone_model_is_not_best():
    page = leaderboard_of({"one": (0.2, 0.8)})
    assert not cells_of(page, "best")
    assert not cells_of(page, "contender")


def test_intervals_and_normalised_values_are_there():
    page = leaderboard_of({"a": (0.2, 0.8), "b": (0.3, 0.7)})
    board = make_board(make_scores({"a": (0.2, 0.8)})).iloc[0]
    assert f"{board['rmse_average_low']:.4f} to {board['rmse_average_high']:.4f}" in page


def test_one_state_needs_no_table():
    scores = make_scores({"a": (0.2, 0.8)}, states=("s1",))
    assert sections.states(per_state(scores), METRIC_NAMES, ["a"]) is None
    bare = per_state(scores.drop(columns="cell_type"))
    assert sections.states(bare, METRIC_NAMES, ["a"]) is None


def test_every_row_says_how_to_make_it_again():
    log = pd.DataFrame(
        {
            "prediction": ["lat/seed0", "mine"],
            "status": ["evaluated", "refused"],
            "reason": ["new", "NaN in <X>"],
            "hyperparameters": ['{"lr": 0.1}', np.nan],
            "command": ["kedro run --params=task:t,model:lat,seed:0,hparams.lr:0.1", np.nan],
        }
    )
    page = body(render_page("T", "t", [sections.predictions(log, "t")]))
    assert "<pre>kedro run --params=task:t,model:lat,seed:0,hparams.lr:0.1</pre>" in page
    assert "NaN in &lt;X&gt;" in page
    assert "data/07_model_output/t/" in page
    assert "nan" not in page


def test_series_names_what_was_not_run():
    board = make_board(make_scores({"a": (0.2, 0.8)}))
    figure = figures.plot_series({"x": board, "y": board}, {"x": 0.0, "y": 0.5}, "imbalance", METRICS, ["a"])
    page = body(render_page("T", "t", [sections.series(figure, "imbalance", ["x", "y"], ["z"])]))
    assert "Without\nresults yet: z" in page
    empty = figures.plot_series({"x": board}, {"x": 0.0}, "imbalance", METRICS, ["a"])
    assert sections.series(empty, "imbalance", ["x"], ["y"]) is None


def test_of_many_paired_tests_those_with_the_best_are_shown():
    page = leaderboard_of({f"m{i}": (0.2 + i / 100, 0.8 - i / 100) for i in range(16)})
    assert "The 210\ntests between other models" in page
    assert "<td>m0</td><td>m5</td>" in page
    assert "<td>m5</td><td>m6</td>" not in page
