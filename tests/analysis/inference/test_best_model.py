"""Which model is best, and which beat the baseline."""

import numpy as np
from tests.analysis.scored import METRIC_NAMES, make_board, make_scores

from perturbench.analysis.inference.best_model import better_than_baseline, find_best
from perturbench.analysis.inference.uncertainty import compare_with_baseline, paired_tests
from perturbench.analysis.report.verdict import headline, verdicts


def test_a_model_that_leaves_perturbations_out_is_not_best():
    scores = make_scores({"honest": (0.3, 0.7), "shy": (0.1, 0.9)})
    scores.loc[(scores["model"] == "shy") & (scores["perturbation"] == "P0"), "value"] = np.nan
    best = find_best(make_board(scores), paired_tests(scores))
    assert {name: entry.model for name, entry in best.items()} == dict.fromkeys(METRIC_NAMES, "honest")


def test_a_mean_that_few_perturbations_pull_is_not_best():
    """The test is sure that the other is better: lower nearly everywhere, and far off on one perturbation."""
    scores = make_scores({"steady": (0.3, 0.7), "usually_better": (0.29, 0.71)}, states=[f"s{i}" for i in range(5)])
    far = (scores["model"] == "usually_better") & (scores["perturbation"] == "P0")
    scores.loc[far & (scores["metric"] == "rmse_average"), "value"] = 5.0
    tests, board = paired_tests(scores), make_board(scores)
    assert tests.set_index("metric").loc["rmse_average", "adjusted"] < 0.05
    best = find_best(board, tests)["rmse_average"]
    assert (best.model, best.contenders) == ("steady", ("usually_better",))


def test_a_model_that_is_worse_everywhere_is_out_however_many_models_there_are():
    """With twenty models all pairs are too many tests for ten perturbations; nineteen comparisons with one are not."""
    alike = {f"model{i:02}": (0.3, 0.7) for i in range(19)}
    scores = make_scores({**alike, "worst": (0.6, 0.1)}, states=["s1"])
    tests = paired_tests(scores)
    assert tests.loc[(tests["model"] == "worst") | (tests["other"] == "worst"), "adjusted"].min() > 0.05
    for best in find_best(make_board(scores), tests).values():
        assert {best.model, *best.contenders} == set(alike)


def test_a_model_that_leaves_perturbations_out_puts_none_out():
    scores = make_scores({"honest": (0.3, 0.7), "shy": (0.1, 0.9)}, states=[f"s{i}" for i in range(5)])
    scores.loc[(scores["model"] == "shy") & (scores["perturbation"] == "P0"), "value"] = np.nan
    best = find_best(make_board(scores), paired_tests(scores))
    assert {entry.model for entry in best.values()} == {"honest"}
    assert {entry.contenders for entry in best.values()} == {("shy",)}, "no one can say that it is worse"


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
    assert (best.model, best.contenders) == ("lacks_easy", ())


def test_a_metric_without_tests_has_no_best():
    scores = make_scores({"a": (0.2, 0.8), "b": (0.3, 0.7)})
    tests = paired_tests(scores)
    best = find_best(make_board(scores), tests[tests["metric"] == "rmse_average"])
    assert list(best) == ["rmse_average"]
    rows = verdicts(METRIC_NAMES, best, {})
    assert [row["best"] for row in rows] == ["a", "not tested"]
    assert find_best(make_board(scores), None) == {}


def test_better_follows_the_metric():
    scores, anchors = make_scores({"a": (0.2, 0.2), "b": (0.9, 0.9)}), make_scores({"mean_response": (0.5, 0.5)})
    better = better_than_baseline(compare_with_baseline(scores, anchors), ["b", "a"])
    assert better == {"cosine_logfc": ["b"], "rmse_average": ["a"]}
    assert better_than_baseline(None, ["a"]) == {}
    assert headline({}, 2, "mean_response") == ""
