import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from perturbench.analysis.score_table import model_and_seed
from perturbench.config.sections import (
    DataConfig,
    EmbeddingConfig,
    EvaluationConfig,
    PredictionConfig,
    PreprocessingConfig,
    SplitterConfig,
)
from perturbench.errors import PerturbenchError
from perturbench.pipelines.evaluation.nodes import evaluate_predictions, rank_models
from perturbench.pipelines.evaluation.scoring import Outcome
from perturbench.pipelines.preprocessing.nodes import prepare_cells
from perturbench.pipelines.splitting.nodes import assign_split
from perturbench.provenance import Stamp

DATA = DataConfig(dataset="x", source={"path": "x"})
SETTINGS = EvaluationConfig()


@pytest.fixture
def task(screen):
    """Prepared cells, their split, its summary and checks, and the test cells themselves as a prediction."""
    split, summary, checks = assign_split(screen, DATA, SplitterConfig(method="transfer"), "mine")
    prepared = prepare_cells(screen, split, DATA, PreprocessingConfig(), "mine", EmbeddingConfig(checkpoint="x"), {})
    truth = prepared[(split["split"] == "test").to_numpy()].copy()
    return prepared, split, summary, checks, truth


def evaluate(task, predictions, known=None, settings=SETTINGS):
    prepared, split, *_ = task
    predictions = {name: (lambda cells=cells: cells) for name, cells in predictions.items()}
    known = {name: (lambda frame=frame: frame) for name, frame in (known or {}).items()}
    return evaluate_predictions(predictions, known, prepared, split, DATA, PredictionConfig(), settings, "mine")[:3]


def status(log):
    return dict(zip(log["prediction"], log["status"], strict=True))


def test_names_of_predictions():
    assert model_and_seed("cpa/seed3") == ("cpa", 3)
    assert model_and_seed("my_team/final") == ("my_team/final", None)
    assert model_and_seed("seed3") == ("seed3", None)


def test_only_what_changed_is_evaluated(task):
    truth = task[-1]
    noisy = truth.copy()
    noisy.X = np.abs(truth.X.toarray() + np.random.default_rng(0).normal(0, 0.3, truth.shape))
    scores, log, _anchors = evaluate(task, {"a/seed0": truth, "b": noisy})
    assert status(log) == {"a/seed0": "evaluated", "b": "evaluated"}

    again, log, _ = evaluate(task, {"a/seed0": truth, "b": noisy}, scores)
    assert not again
    assert set(status(log).values()) == {"up to date"}

    again, log, _ = evaluate(task, {"a/seed0": noisy, "b": noisy}, scores)
    assert list(again) == ["a/seed0"]
    assert log.set_index("prediction").loc["a/seed0", "reason"] == "changed: prediction"

    again, log, _ = evaluate(task, {"a/seed0": truth}, scores, EvaluationConfig(metrics=["rmse_average"]))
    assert list(again) == ["a/seed0"]
    assert status(log) == {"a/seed0": "evaluated", "b": "prediction is gone"}

    other = SplitterConfig(method="transfer", seed=7)
    split, *_ = assign_split(task[0], DATA, other, "mine")
    prepared = task[0]
    test = prepared[(split["split"] == "test").to_numpy()].copy()
    again, log, _ = evaluate((prepared, split), {"a/seed0": test}, {"a/seed0": scores["a/seed0"]})
    assert log["reason"].tolist() == ["changed: prediction; split"]


def test_a_refused_prediction_does_not_stop_the_others(task):
    broken = task[-1].copy()
    values = broken.X.toarray()
    values[(broken.obs["condition"] != "control").argmax(), 0] = np.nan
    broken.X = values
    scores, log, anchors = evaluate(task, {"good": task[-1], "broken": broken})
    assert status(log) == {"good": "evaluated", "broken": "refused"}
    assert "NaN or infinite" in log.set_index("prediction").loc["broken", "reason"]
    board = rank_models({name: (lambda f=frame: f) for name, frame in scores.items()}, log, anchors, SETTINGS)[0]
    assert board["model"].tolist() == ["good"]
    with pytest.raises(PerturbenchError, match="every prediction of task 'mine' was refused"):
        evaluate(task, {"broken": broken})


def unreadable():
    raise TypeError("no such type")


def test_what_no_check_foresees_refuses_only_its_prediction(task):
    prepared, split, *_, truth = task
    settings = (prepared, split, DATA, PredictionConfig(), SETTINGS, "mine")
    scores, log, _, _ = evaluate_predictions({"good": lambda: truth, "odd": unreadable}, {}, *settings)
    assert list(scores) == ["good"]
    assert log.set_index("prediction").loc["odd", "reason"] == "it cannot be scored: TypeError: no such type"


def repeated(cells):
    """Return cells in which each value above 1 is stored as 1 and the rest."""
    x = sp.csr_matrix(cells.X)
    parts = np.where(x.data > 1, 1, x.data), np.maximum(x.data - 1, 0)
    indices = np.repeat(x.indices, 2)
    split = cells.copy()
    split.X = sp.csr_matrix((np.stack(parts, 1).ravel(), indices, x.indptr * 2), x.shape)
    assert not split.X.has_canonical_format
    return split


def test_repeated_entries_of_a_prediction_are_summed(task):
    truth = task[-1]
    noisy = truth.copy()
    # Few values, because blocks with many are made dense, which sums them anyway.
    mask = np.random.default_rng(0).random(truth.shape) < 0.1
    noisy.X = sp.csr_matrix(np.where(mask, truth.X.toarray() * 1.1, 0))
    twice = repeated(noisy)
    n_stored = twice.X.nnz
    settings = EvaluationConfig(metrics="all")
    scores, *_ = evaluate(task, {"once": noisy, "twice": twice}, settings=settings)
    assert scores["twice"]["value"].to_numpy() == pytest.approx(
        scores["once"]["value"].to_numpy(), nan_ok=True, rel=1e-4, abs=1e-6
    )
    assert twice.X.nnz == n_stored, "the prediction itself is not changed"
    assert len(twice.X.data) == n_stored


@pytest.mark.parametrize("name", ["=cmd|' C calc'!A0", "+1", "-x/seed0", "@SUM(A1)", "\tx", "\rx"])
def test_a_name_that_starts_a_formula_is_refused_alone(task, name):
    scores, log, _ = evaluate(task, {"good": task[-1], name: task[-1]}, {"=old": pd.DataFrame()})
    assert list(scores) == ["good"]
    assert log.set_index("status").loc["refused", "reason"] == (
        f"the name '{name}' begins with '{name[0]}', which spreadsheets take for the start of a formula; give the file "
        "a name that begins with a letter or a digit."
    )
    assert set(log["prediction"]) == {"good", f"'{name}", "'=old"}
    assert not log.map(lambda text: text.startswith(("=", "+", "-", "@", "\t", "\r"))).any(axis=None)


def test_a_file_named_like_a_model_is_no_further_seed(task):
    names = ["mean_response", "mean_response/seed0", "mean_response/seed1", "mean_response_2"]
    scores, log, _ = evaluate(task, dict.fromkeys(names, task[-1]))
    assert list(scores) == names[1:]
    assert log.set_index("status").loc["refused", "reason"] == (
        "'mean_response' has the name of the model of 'mean_response/seed0' and would count as another seed of it; "
        "give the file another name."
    )


def test_the_command_of_a_dropped_in_file_starts_no_formula(task):
    outcome = Outcome("refused", "=x", Stamp.make("mine", command="=cmd|' C calc'!A0"))
    assert outcome.row("good")["command"] == "'=cmd|' C calc'!A0"
    assert outcome.row("good")["reason"] == "'=x"


def test_scores_that_cannot_be_read_are_computed_again(task):
    prepared, split, *_, truth = task
    settings = (prepared, split, DATA, PredictionConfig(), SETTINGS, "mine")

    def torn():
        raise OSError("torn")

    for known, reason in [(torn, "cannot be read"), (pd.DataFrame, "have no readable stamp")]:
        scores, log, _, _ = evaluate_predictions({"a": lambda: truth}, {"a": known}, *settings)
        assert list(scores) == ["a"]
        assert log["reason"].tolist() == [f"the earlier scores {reason}"]


def test_a_prediction_of_other_cells_is_refused_with_its_command(task):
    truth = task[-1]
    made_by = Stamp.make("mine", "cpa", 1, inputs={"cells": "other"}, settings={"prediction": {"part": "val"}})
    stamped = truth.copy()
    stamped.uns["perturbench"] = made_by.extend(settings={"hyperparameters": {"lr": 1}}, command="kedro run").text()
    _, log, _ = evaluate(task, {"cpa/seed1": stamped, "mine": truth})
    row = log.set_index("prediction").loc["cpa/seed1"]
    assert row["status"] == "refused"
    assert (
        "this evaluation: cells; prediction settings: part (test, was val) changed since it was made" in row["reason"]
    )
    assert row["reason"].endswith("kedro run --pipeline=modeling --params=task:mine,model:cpa,seed:1")
    assert (row["hyperparameters"], row["command"]) == ('{"lr": 1}', "kedro run")


def test_leaderboard_of_seeds(task):
    truth = task[-1]
    scores, log, anchors = evaluate(task, {"perfect/seed0": truth, "perfect/seed1": truth})
    lazy = {name: (lambda f=frame: f) for name, frame in scores.items()}
    board, _, _, baseline_tests, state_scores = rank_models(lazy, log, anchors, SETTINGS)
    perfect = board.set_index("model").loc["perfect"]
    assert perfect["seeds"] == 2
    assert perfect["rmse_average"] == pytest.approx(0, abs=1e-7)
    assert perfect["rmse_rank_average"] == 0
    assert perfect["cosine_logfc"] == pytest.approx(1)
    assert set(baseline_tests["other"]) == {"anchor: mean_response"}
    assert set(state_scores["cell_type"]) == set(truth.obs["cell_type"])


def test_unknown_metrics_and_plugins_are_told(task):
    with pytest.raises(PerturbenchError, match=r"unknown metric 'rmsd_average'.*rmse_average"):
        evaluate(task, {"a": task[-1]}, settings=EvaluationConfig(metrics=["rmsd_average"]))
    with pytest.raises(PerturbenchError, match="module 'no_such_module' cannot be imported"):
        evaluate(task, {"a": task[-1]}, settings=EvaluationConfig(plugins=["no_such_module"]))


def test_scores_are_long(task):
    scores, *_ = evaluate(task, {"a/seed0": task[-1]})
    frame = scores["a/seed0"]
    assert list(frame.columns) == ["model", "seed", "metric", "perturbation", "cell_type", "value"]
    assert frame["seed"].dtype == pd.Int64Dtype()
    assert Stamp.read(frame.attrs).task == "mine"


def test_similarities_are_of_what_was_evaluated_now(task):
    prepared, split, *_ = task
    predictions = {"a": lambda: task[-1]}
    settings = (prepared, split, DATA, PredictionConfig(), SETTINGS, "mine")
    scores, _, _, similarities = evaluate_predictions(predictions, {}, *settings)
    assert np.allclose(similarities["a"]["observed"], similarities["a"]["predicted"], atol=1e-5)
    *_, again = evaluate_predictions(predictions, {"a": lambda: scores["a"]}, *settings)
    assert not again
