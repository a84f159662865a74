import numpy as np
import pandas as pd
import pytest

from perturbench.analysis.leaderboard import format_leaderboard, leaderboard, print_leaderboard
from perturbench.analysis.metrics.registry import find_metric, resolve_metrics
from perturbench.analysis.score_table import metric_names
from perturbench.errors import PerturbenchError

METRICS = ["rmse_average", "cosine_logfc"]


def scores(**models):
    """Return scores of {model: {seed: ([rmse per perturbation], [cosine per perturbation])}}."""
    rows = [
        (model, seed, metric, f"P{i}", value)
        for model, seeds in models.items()
        for seed, values in seeds.items()
        for metric, own in zip(METRICS, values, strict=True)
        for i, value in enumerate(own)
    ]
    return pd.DataFrame(rows, columns=["model", "seed", "metric", "perturbation", "value"])


def board(table, names=METRICS):
    return leaderboard(table, resolve_metrics(names)).set_index("model")


def test_mean_and_sd_are_over_seeds():
    table = board(scores(a={0: ([1, 3], [0.5, 0.5]), 1: ([2, 6], [0.1, 0.3]), 2: ([3, 3], [0.3, 0.3])}))
    assert table.loc["a", "seeds"] == 3
    assert table.loc["a", "rmse_average"] == pytest.approx(3)
    assert table.loc["a", "rmse_average_sd"] == pytest.approx(np.std([2, 4, 3], ddof=1))
    assert table.loc["a", "cosine_logfc"] == pytest.approx(1 / 3)
    assert table.loc["a", "cosine_logfc_sd"] == pytest.approx(np.std([0.5, 0.2, 0.3], ddof=1))


def test_one_seed_has_no_sd():
    assert np.isnan(board(scores(a={0: ([1, 3], [0.5, 0.5])})).loc["a", "rmse_average_sd"])


def test_undefined_values_are_left_out_and_counted():
    table = board(scores(a={0: ([1, 3], [np.nan, 0.5]), 1: ([1, 3], [np.nan, np.nan])}))
    assert table.loc["a", "cosine_logfc"] == 0.5
    assert table.loc["a", "cosine_logfc_undefined"] == 0.75
    assert table.loc["a", "rmse_average_undefined"] == 0


def test_best_model_is_first():
    table = scores(b={0: ([2], [0.1])}, c={0: ([1], [0.3])}, a={0: ([2], [0.2])}, d={0: ([np.nan], [0.9])})
    assert list(board(table).index) == ["c", "a", "b", "d"]
    assert list(board(table, METRICS[::-1]).index) == ["d", "c", "a", "b"]


def test_metric_that_a_model_does_not_have():
    table = scores(a={0: ([1], [0.1])}, b={0: ([2], [0.2])})
    table = table[~((table["model"] == "b") & (table["metric"] == "cosine_logfc"))]
    assert np.isnan(board(table).loc["b", "cosine_logfc"])


def test_models_without_a_seed_are_ranked():
    table = scores(mine={0: ([1, 3], [0.5, 0.5])}).assign(seed=np.nan)
    assert board(table).loc["mine", ["seeds", "rmse_average"]].tolist() == [1, 2]


def test_no_scores():
    with pytest.raises(PerturbenchError, match="there are no scores to rank"):
        leaderboard(scores(), resolve_metrics(METRICS))


def test_text():
    table = leaderboard(
        scores(a={0: ([1, 2], [np.nan, np.nan]), 1: ([2, 3], [np.nan, np.nan])}, b={0: ([9], [0.25])}),
        resolve_metrics(METRICS),
    )
    assert metric_names(table) == METRICS
    text = format_leaderboard(table).to_dict("records")
    assert text[0] == {"model": "a", "seeds": "2", "rmse_average": "2.0000 ± 0.7071", "cosine_logfc": "-"}
    assert text[1] == {"model": "b", "seeds": "1", "rmse_average": "9.0000", "cosine_logfc": "0.2500"}


def test_print(capsys):
    print_leaderboard(leaderboard(scores(a={0: ([1], [0.5])}), resolve_metrics(METRICS)), "demo")
    printed = capsys.readouterr().out
    for part in ("demo", "rmse_average ↓", "cosine_logfc ↑", "1.0000", "0.5000"):
        assert part in printed


def test_leaving_perturbations_out_does_not_win():
    """A model that is defined on its best perturbation only comes after one that is scored on all."""
    rows = (
        [("honest", f"P{i}", 0.5) for i in range(4)]
        + [("shy", "P0", 1.0)]
        + [("shy", f"P{i}", np.nan) for i in (1, 2, 3)]
    )
    scores = pd.DataFrame(rows, columns=["model", "perturbation", "value"]).assign(seed=0, metric="cosine_logfc")
    table = leaderboard(scores, [find_metric("cosine_logfc")])
    assert table["model"].tolist() == ["honest", "shy"]
    assert format_leaderboard(table)["cosine_logfc"].tolist() == ["0.5000", "1.0000 (of 25%)"]
