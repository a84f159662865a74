"""The report: what it says, and that it opens offline."""

import re

import numpy as np
import pandas as pd
import pytest
from tests.analysis.scored import METRICS, make_board, make_scores

from perturbench.analysis import figures
from perturbench.analysis.inference.best_model import better_than_baseline, find_best
from perturbench.analysis.inference.uncertainty import compare_with_baseline, paired_tests
from perturbench.analysis.report import Section, render_page, sections
from perturbench.analysis.report.tables import by_state
from perturbench.analysis.report.verdict import headline, verdicts
from perturbench.analysis.score_table import per_state

NAMES = [metric.name for metric in METRICS]


def body(page):
    """The page without scripts and styles."""
    return re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)


def leaderboard_of(values, baseline=(0.4, 0.6)):
    scores, anchors = make_scores(values), make_scores({"mean_response": baseline})
    board = make_board(scores, anchors)
    tests = compare_with_baseline(scores, anchors)
    section = sections.leaderboard(board, None, make_board(anchors), paired_tests(scores), tests)
    return body(render_page("T", "t", [section]))


def cells_of(page, kind):
    return re.findall(rf'<td class="{kind}">([^<]*)</td>', page)


def test_best_is_marked_where_the_test_supports_it():
    page = leaderboard_of({"good": (0.2, 0.8), "bad": (0.3, 0.7)})
    assert len(cells_of(page, "best")) == 2
    assert not cells_of(page, "alike")


def test_no_best_where_models_cannot_be_told_apart():
    page = leaderboard_of({"one": (0.2, 0.8), "same": (0.2, 0.8), "bad": (0.3, 0.7)})
    assert not cells_of(page, "best")
    assert len(cells_of(page, "alike")) == 4, "both models on both metrics"
    assert re.search(r"none for certain: \w+ has the best mean, \w+ may be better", page)


def test_a_lone_model_is_not_best():
    page = leaderboard_of({"one": (0.2, 0.8)})
    assert not cells_of(page, "best")
    assert not cells_of(page, "alike")


def test_a_model_that_leaves_perturbations_out_is_not_best():
    scores = make_scores({"honest": (0.3, 0.7), "shy": (0.1, 0.9)})
    scores.loc[(scores["model"] == "shy") & (scores["perturbation"] == "P0"), "value"] = np.nan
    best = find_best(make_board(scores), paired_tests(scores))
    assert {name: entry.model for name, entry in best.items()} == dict.fromkeys(NAMES, "honest")


def test_a_mean_that_few_perturbations_pull_is_not_best():
    """The test is sure that the other is better: lower nearly everywhere, and far off on one perturbation."""
    scores = make_scores({"steady": (0.3, 0.7), "usually_better": (0.29, 0.71)}, states=[f"s{i}" for i in range(5)])
    far = (scores["model"] == "usually_better") & (scores["perturbation"] == "P0")
    scores.loc[far & (scores["metric"] == "rmse_average"), "value"] = 5.0
    tests, board = paired_tests(scores), make_board(scores)
    assert tests.set_index("metric").loc["rmse_average", "adjusted"] < 0.05
    best = find_best(board, tests)["rmse_average"]
    assert (best.model, best.alike) == ("steady", ("usually_better",))


def test_a_model_that_is_worse_everywhere_is_out_however_many_models_there_are():
    """With twenty models all pairs are too many tests for ten perturbations; nineteen comparisons with one are not."""
    alike = {f"model{i:02}": (0.3, 0.7) for i in range(19)}
    scores = make_scores({**alike, "worst": (0.6, 0.1)}, states=["s1"])
    tests = paired_tests(scores)
    assert tests.loc[(tests["model"] == "worst") | (tests["other"] == "worst"), "adjusted"].min() > 0.05
    for best in find_best(make_board(scores), tests).values():
        assert {best.model, *best.alike} == set(alike)


def test_a_model_that_leaves_perturbations_out_puts_none_out():
    scores = make_scores({"honest": (0.3, 0.7), "shy": (0.1, 0.9)}, states=[f"s{i}" for i in range(5)])
    scores.loc[(scores["model"] == "shy") & (scores["perturbation"] == "P0"), "value"] = np.nan
    best = find_best(make_board(scores), paired_tests(scores))
    assert {entry.model for entry in best.values()} == {"honest"}
    assert {entry.alike for entry in best.values()} == {("shy",)}, "no one can say that it is worse"


def test_a_model_that_is_out_is_not_best_though_its_mean_is():
    """One lacks a hard perturbation and one an easy one: the means are not of the same, the tests are."""
    scores = make_scores({"lacks_hard": (0.3, 0.7), "lacks_easy": (0.25, 0.75)}, states=[f"s{i}" for i in range(5)])
    hard, easy = scores["perturbation"] == "P9", scores["perturbation"] == "P0"
    scores.loc[hard & (scores["metric"] == "rmse_average"), "value"] += 5.0
    scores.loc[hard & (scores["model"] == "lacks_hard"), "value"] = np.nan
    scores.loc[easy & (scores["model"] == "lacks_easy"), "value"] = np.nan
    board = make_board(scores)
    means = board.set_index("model")["rmse_average"]
    assert means["lacks_hard"] < means["lacks_easy"]
    best = find_best(board, paired_tests(scores))["rmse_average"]
    assert (best.model, best.alike) == ("lacks_easy", ())


def test_a_metric_without_tests_has_no_best():
    scores = make_scores({"a": (0.2, 0.8), "b": (0.3, 0.7)})
    tests = paired_tests(scores)
    best = find_best(make_board(scores), tests[tests["metric"] == "rmse_average"])
    assert list(best) == ["rmse_average"]
    rows = verdicts(NAMES, best, {})
    assert [row["best"] for row in rows] == ["a", "not tested"]
    assert find_best(make_board(scores), None) == {}


def test_nothing_beats_the_baseline_is_said_plainly():
    page = leaderboard_of({"a": (0.4, 0.6), "b": (0.5, 0.5)})
    assert "Nothing beats the baseline: on no metric is a model better than mean_response" in page


def test_what_beats_the_baseline_is_counted():
    page = leaderboard_of({"a": (0.2, 0.5), "b": (0.5, 0.5)})
    assert "1 of 2 models beat the baseline mean_response on at least one metric." in page
    assert "On cosine_logfc nothing beats the baseline." in page


def test_better_follows_the_metric():
    scores, anchors = make_scores({"a": (0.2, 0.2), "b": (0.9, 0.9)}), make_scores({"mean_response": (0.5, 0.5)})
    better = better_than_baseline(compare_with_baseline(scores, anchors), ["b", "a"])
    assert better == {"cosine_logfc": ["b"], "rmse_average": ["a"]}
    assert better_than_baseline(None, ["a"]) == {}
    assert headline({}, 2, "mean_response") == ""


def test_intervals_and_normalised_values_are_there():
    page = leaderboard_of({"a": (0.2, 0.8), "b": (0.3, 0.7)})
    board = make_board(make_scores({"a": (0.2, 0.8)})).iloc[0]
    assert f"{board['rmse_average_low']:.4f} to {board['rmse_average_high']:.4f}" in page


def test_states_are_columns_and_better_is_darker():
    scores = make_scores({"a": (0.2, 0.8), "b": (0.3, 0.7)}, seeds=(0, 1))
    table = by_state(per_state(scores), "rmse_average", ["b", "a"])
    assert table["columns"] == ["s1 (n=10)", "s2 (n=10)"], "seeds are no perturbations"
    (first, cells), (second, others) = table["rows"]
    assert (first, second) == ("b", "a")
    assert [cell["strength"] for cell in cells] == [0, 0]
    assert [cell["strength"] for cell in others] == [1, 1]
    assert cells[0]["text"] == "0.346"
    higher = by_state(per_state(scores), "cosine_logfc", ["a", "b"])
    assert higher["rows"][0][1][0]["strength"] == 1


def test_many_states_go_down_the_page():
    scores = make_scores({"a": (0.2, 0.8), "b": (0.3, 0.7)}, states=[f"s{i}" for i in range(12)])
    table = by_state(per_state(scores), "rmse_average", ["a", "b"])
    assert table["corner"] == "state"
    assert table["columns"] == ["a", "b"]
    assert len(table["rows"]) == 12


def test_one_state_needs_no_table():
    scores = make_scores({"a": (0.2, 0.8)}, states=("s1",))
    assert sections.states(per_state(scores), NAMES, ["a"]) is None
    bare = per_state(scores.drop(columns="cell_type"))
    assert sections.states(bare, NAMES, ["a"]) is None


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
    assert "Not run yet, and not drawn:\nz" in page
    empty = figures.plot_series({"x": board}, {"x": 0.0}, "imbalance", METRICS, ["a"])
    assert sections.series(empty, "imbalance", ["x"], ["y"]) is None


def test_sections_without_anything_to_draw_are_left_out():
    page = body(
        render_page("T", "t", [sections.similarities(figures.plot_similarities({})), None, sections.data(None)])
    )
    assert "<h2>" not in page


def test_page_is_offline_and_holds_plotly_once():
    board = make_board(make_scores({"a": (0.2, 0.8), "b": (0.3, 0.7)}))
    figure = figures.plot_ranking(board, METRICS)
    shown = [sections.leaderboard(board, figure), sections.perturbations(figure, NAMES)]
    page = render_page("<Mine>", "t", shown)
    assert "&lt;Mine&gt;" in page
    assert page.count("plotly.js v") == 1
    assert page.count("Plotly.newPlot(") == 2
    assert not re.search(r'<(script|link|img)[^>]*(src|href)="http', page)
    assert '<a href="#leaderboard">' in page


@pytest.mark.parametrize("title", ["Scores per state", "A & B (c)"])
def test_links_lead_to_their_sections(title):
    section = Section(title, "provenance.html.jinja", {"facts": {}, "command": None})
    page = body(render_page("T", "t", [section]))
    target = re.search(r'<a href="#([^"]+)"', page)[1]
    assert f'<section id="{target}">' in page


def test_of_many_paired_tests_those_with_the_best_are_shown():
    page = leaderboard_of({f"m{i}": (0.2 + i / 100, 0.8 - i / 100) for i in range(16)})
    assert "210 between others" in page
    assert "<td>m0</td><td>m5</td>" in page
    assert "<td>m5</td><td>m6</td>" not in page


def test_thirty_models_and_five_seeds():
    scores = make_scores({f"m{i}": (0.2 + i / 100, 0.8 - i / 100) for i in range(30)}, seeds=range(5))
    board = make_board(scores)
    models = list(board["model"])
    shown = [
        sections.leaderboard(board, figures.plot_ranking(board, METRICS)),
        sections.perturbations(figures.plot_scores(scores, METRICS, models), NAMES),
        sections.states(per_state(scores), NAMES, models),
    ]
    page = render_page("T", "t", shown)
    assert models == [f"m{i}" for i in range(30)]
    assert len(page) < 5.5e6, "plotly's script is 4.8 MB of it"
