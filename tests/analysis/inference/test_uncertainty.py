import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from perturbench.analysis import bootstrap_intervals, paired_tests
from perturbench.analysis.inference.uncertainty import compare_with_baseline


def make_scores(n=40, gap=0.2, seed=0):
    rng = np.random.default_rng(seed)
    base = rng.normal(1, 0.5, n)
    rows = []
    for model, shift in (("a", 0.0), ("b", gap), ("c", 0.0)):
        values = base + shift + rng.normal(0, 0.05, n)
        rows += [(model, "rmse", f"P{i}", f"s{i % 3}", value) for i, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["model", "metric", "perturbation", "cell_type", "value"])


def test_interval_covers_the_mean_about_as_often_as_it_says():
    covered = []
    for seed in range(100):
        values = np.random.default_rng(seed).normal(3, 1, 30)
        scores = pd.DataFrame({"model": "a", "metric": "m", "perturbation": map(str, range(30)), "value": values})
        row = bootstrap_intervals(scores, n_resamples=500).iloc[0]
        assert row["low"] < row["mean"] < row["high"]
        covered.append(row["low"] < 3 < row["high"])
    assert 0.85 < np.mean(covered) < 0.99


def test_differences_that_are_equal_but_for_rounding_are_ties():
    """Rank metrics are multiples of 1 / (n - 1): 0.3 - 0.2 is not 0.2 - 0.1 as floats."""
    tenths = {"a": [3, 2, 9, 4, 7, 1, 8, 6], "b": [2, 1, 6, 5, 6, 0, 6, 8]}
    rows = [(model, "m", f"P{i}", value) for model, values in tenths.items() for i, value in enumerate(values)]
    whole = pd.DataFrame(rows, columns=["model", "metric", "perturbation", "value"])
    parts = whole.assign(value=whole["value"] / 10)
    of_whole, of_parts = paired_tests(whole).iloc[0], paired_tests(parts).iloc[0]
    assert of_parts["pvalue"] == of_whole["pvalue"]
    assert of_parts["rank_biserial"] == of_whole["rank_biserial"]


def test_the_order_of_rows_does_not_matter():
    scores = make_scores()
    again = bootstrap_intervals(scores.sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(bootstrap_intervals(scores), again)


def test_states_are_kept_whole():
    """Two states far apart: drawn within states, the interval is that within them."""
    rows = [("a", "m", f"P{i}", "low" if i < 20 else "high", 0.0 if i < 20 else 100.0) for i in range(40)]
    scores = pd.DataFrame(rows, columns=["model", "metric", "perturbation", "cell_type", "value"])
    row = bootstrap_intervals(scores).iloc[0]
    assert (row["low"], row["high"]) == (50.0, 50.0)


def test_seeds_are_no_perturbations():
    scores = make_scores()
    seeds = pd.concat([scores.assign(seed=seed) for seed in range(5)])
    assert bootstrap_intervals(seeds)["n"].tolist() == [40, 40, 40]
    columns = ["mean", "low", "high"]
    assert bootstrap_intervals(seeds)[columns].to_numpy() == pytest.approx(
        bootstrap_intervals(scores)[columns].to_numpy()
    )


def test_undefined_values_are_left_out():
    scores = make_scores()
    scores.loc[scores["perturbation"] == "P0", "value"] = np.nan
    assert bootstrap_intervals(scores)["n"].tolist() == [39, 39, 39]
    assert paired_tests(scores)["n"].tolist() == [39, 39, 39]
    scores["value"] = np.nan
    assert bootstrap_intervals(scores)[["low", "high"]].isna().all(axis=None)
    assert len(paired_tests(scores)) == 0 or paired_tests(scores)["pvalue"].isna().all()


def test_paired_tests_see_a_real_difference_and_not_noise():
    table = paired_tests(make_scores()).set_index(["model", "other"])
    assert table.loc[("a", "b"), "adjusted"] < 1e-6
    assert table.loc[("a", "b"), "difference"] == pytest.approx(-0.2, abs=0.05)
    assert table.loc[("a", "c"), "adjusted"] > 0.01
    wide = make_scores().pivot(index="perturbation", columns="model", values="value")
    assert table.loc[("b", "c"), "pvalue"] == pytest.approx(wilcoxon(wide["b"] - wide["c"]).pvalue)


def test_holm_by_hand():
    rng = np.random.default_rng(0)
    rows = [(m, "x", f"P{i}", rng.normal(k * 0.3)) for k, m in enumerate("abc") for i in range(12)]
    table = paired_tests(pd.DataFrame(rows, columns=["model", "metric", "perturbation", "value"]))
    p = np.sort(table["pvalue"].to_numpy())
    expected = [min(1, 3 * p[0]), min(1, max(3 * p[0], 2 * p[1])), min(1, max(3 * p[0], 2 * p[1], p[2]))]
    assert np.sort(table["adjusted"].to_numpy()) == pytest.approx(expected)


def test_equal_models_do_not_differ():
    scores = make_scores(gap=0.0)
    twin = pd.concat([scores[scores["model"] == "a"], scores[scores["model"] == "a"].assign(model="twin")])
    assert paired_tests(twin)["pvalue"].tolist() == [1.0]


def test_lone_perturbations_of_states_are_drawn_together():
    values = [0.1, 0.2, 0.4, 0.5, 0.7, 0.9]
    rows = [("a", "m", f"P{i}", f"s{i}", value) for i, value in enumerate(values)]
    row = bootstrap_intervals(
        pd.DataFrame(rows, columns=["model", "metric", "perturbation", "cell_type", "value"])
    ).iloc[0]
    assert row["low"] < row["mean"] - 0.1 and row["high"] > row["mean"] + 0.1


def test_a_value_of_the_whole_split_has_no_interval():
    scores = pd.DataFrame({"model": ["a"], "metric": "d", "perturbation": "(all)", "value": 3.0})
    assert bootstrap_intervals(scores)[["low", "high"]].isna().all(axis=None)


def test_rounding_is_no_difference():
    scores = make_scores()
    one = scores[scores["model"] == "a"]
    twin = pd.concat([one, one.assign(model="twin", value=one["value"] + 1e-15)])
    assert paired_tests(twin)["pvalue"].tolist() == [1.0]


def test_against_a_baseline():
    """Each model once, the correction over the models alone, even if one has the baseline's name."""
    scores = make_scores(gap=0.2)
    baseline = scores[scores["model"] == "b"].assign(model="a")
    table = compare_with_baseline(scores, baseline).set_index("model")
    assert list(table.index) == ["a", "b", "c"]
    assert set(table["other"]) == {"anchor: a"}
    assert table.loc["b", ["difference", "pvalue"]].tolist() == [0, 1]
    assert table.loc["a", "difference"] == pytest.approx(-0.2, abs=0.05)
    assert table.loc["a", "adjusted"] <= 3 * table.loc["a", "pvalue"] < 1e-4


def test_which_way_a_test_goes():
    scores = make_scores(gap=1.0)
    effect = paired_tests(scores).set_index(["model", "other"])["rank_biserial"]
    assert effect["a", "b"] == -1
    assert effect["b", "c"] == 1
    assert abs(effect["a", "c"]) < 0.5


def test_a_baseline_without_a_metric_is_not_tested_on_it():
    scores = make_scores()
    both = pd.concat([scores, scores.assign(metric="cells")])
    assert set(compare_with_baseline(both, scores[scores["model"] == "b"])["metric"]) == {"rmse"}
