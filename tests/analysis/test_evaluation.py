"""From predictions to scores and their summary."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.analysis.predictions import NAMES, make_cells, predict_means, scores_of

from perturbench.analysis import evaluate, register_comparison
from perturbench.analysis.evaluation import score
from perturbench.analysis.metrics.registry import available_metrics
from perturbench.errors import PerturbenchError

DEFAULT = ["rmse_average", "rmse_rank_average", "cosine_logfc", "cosine_rank_logfc"]


def test_one_row_per_model_metric_and_pair(observed, predicted):
    result = evaluate({"one": predicted, "two": observed}, observed)
    assert list(result.scores.columns) == ["model", "metric", "perturbation", "cell_type", "value"]
    assert len(result.scores) == 2 * 4 * 8
    assert not result.scores.duplicated(["model", "metric", "perturbation", "cell_type"]).any()
    assert list(result.summary.index) == ["one", "two"]
    assert list(result.summary.columns) == DEFAULT
    means = result.scores.groupby(["model", "metric"])["value"].mean()
    assert result.summary.loc["one", "cosine_logfc"] == pytest.approx(means["one", "cosine_logfc"])


def test_values_are_those_of_the_definition(observed, predicted):
    result = evaluate({"m": predicted}, observed)

    def mean(adata, name, state):
        here = (adata.obs["condition"] == name) & (adata.obs["cell_type"] == state)
        return adata.X[here.to_numpy()].toarray().astype(float).mean(axis=0)

    for state in ("s", "t"):
        control = np.log2(mean(observed, "control", state) + 0.1)
        for name in NAMES[1:]:
            x, y = mean(observed, name, state), mean(predicted, name, state)
            one = {"perturbation": name, "cell_type": state}
            assert scores_of(result, "rmse_average", **one) == pytest.approx(np.sqrt(((x - y) ** 2).mean()))
            a, b = np.log2(x + 0.1) - control, np.log2(y + 0.1) - control
            expected = a @ b / np.sqrt((a @ a) * (b @ b))
            assert scores_of(result, "cosine_logfc", **one) == pytest.approx(expected)


def test_perfect_prediction(observed):
    summary = evaluate({"m": observed}, observed).summary.loc["m"]
    assert summary.to_dict() == pytest.approx(
        {"rmse_average": 0, "rmse_rank_average": 0, "cosine_logfc": 1, "cosine_rank_logfc": 0}, abs=1e-12
    )


def test_collapsed_prediction_ranks_one_half(observed):
    collapsed = observed.copy()
    collapsed.X = np.tile(observed.X.toarray().mean(axis=0), (observed.n_obs, 1))
    result = evaluate({"m": collapsed}, observed)
    for metric in ("rmse_rank_average", "cosine_rank_logfc"):
        assert set(scores_of(result, metric)) == {0.5}


def test_no_effect_has_no_direction(observed):
    # Predicting the observed controls: the cosine of a zero vector is undefined, its rank is that of a guess.
    rows = np.concatenate(
        [
            np.flatnonzero((observed.obs["condition"] == "control") & (observed.obs["cell_type"] == s))
            for s in ("s", "t")
        ]
    )
    parts = []
    for name in NAMES[1:]:
        part = observed[rows].copy()
        part.obs["condition"] = name
        parts.append(part)
    result = evaluate({"m": ad.concat(parts, index_unique="-")}, observed)
    assert np.isnan(scores_of(result, "cosine_logfc")).all()
    assert set(scores_of(result, "cosine_rank_logfc")) == {0.5}
    assert np.isnan(result.summary.loc["m", "cosine_logfc"])
    assert result.summary.loc["m", "cosine_rank_logfc"] == 0.5


def test_rank_of_a_lone_perturbation_is_undefined():
    reference = make_cells(states=("s",), names=["control", "A"])
    result = evaluate({"m": make_cells(states=("s",), names=["A"], seed=1)}, reference)
    assert np.isnan(scores_of(result, "rmse_rank_average")).tolist() == [True]
    assert np.isnan(result.summary.loc["m", "rmse_rank_average"])
    assert result.summary.loc["m", "rmse_average"] > 0


def test_ranks_are_within_a_state():
    # State t alone has a second perturbation like A in s: it must not count there.
    observed = make_cells()
    predicted = observed.copy()
    swap = {"A": "B", "B": "A"}
    in_t = (predicted.obs["cell_type"] == "t").to_numpy()
    names = predicted.obs["condition"].astype(str)
    predicted.obs["condition"] = np.where(in_t, names.replace(swap), names)
    result = evaluate({"m": predicted}, observed)
    assert set(scores_of(result, "rmse_rank_average", cell_type="s")) == {0.0}
    assert scores_of(result, "rmse_rank_average", cell_type="t", perturbation="A") > 0
    assert scores_of(result, "rmse_rank_average", cell_type="t", perturbation="C") == 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), form=st.sampled_from([sp.csr_matrix, sp.csc_matrix, np.asarray]))
def test_order_and_form_do_not_matter(seed, form):
    rng = np.random.default_rng(seed)
    observed, predicted = make_cells(n=4, labels=seed % 97), make_cells(n=3, seed=1 + seed % 97, labels=3)
    changed = predicted[rng.permutation(predicted.n_obs)][:, rng.permutation(predicted.n_vars)].copy()
    changed.X = form(changed.X.toarray())
    reference = observed[rng.permutation(observed.n_obs)].copy()
    reference.X = form(reference.X.toarray())
    one, other = evaluate({"m": predicted}, observed).scores, evaluate({"m": changed}, reference).scores
    assert one.drop(columns="value").equals(other.drop(columns="value"))
    assert other["value"].to_numpy() == pytest.approx(one["value"].to_numpy(), abs=1e-9, nan_ok=True)


def test_names_are_never_taken_apart():
    rename = {"control": "control_1", "A": "B_A", "B": "B", "C": "β knock out", "A+B": "B_A_B"}
    plain, plain_prediction = make_cells(states=("s", "t")), make_cells(states=("s", "t"), seed=1)
    odd, odd_prediction = plain.copy(), plain_prediction.copy()
    for adata in (odd, odd_prediction):
        adata.obs["condition"] = adata.obs["condition"].astype(str).replace(rename)
        adata.obs["line"] = adata.obs["cell_type"].astype(str).replace({"s": "a_b", "t": "a"})
        adata.obs["dose"] = adata.obs["cell_type"].astype(str).replace({"s": "c", "t": "b_c"})
    result = evaluate({"m": odd_prediction}, odd, covariate_keys=["line", "dose"], control="control_1", delimiter=None)
    expected = evaluate({"m": plain_prediction}, plain)
    assert list(result.scores.columns) == ["model", "metric", "perturbation", "line", "dose", "value"]
    back = {new: old for old, new in rename.items()}
    one = result.scores.assign(
        perturbation=result.scores["perturbation"].replace(back),
        cell_type=result.scores["line"].replace({"a_b": "s", "a": "t"}),
    ).set_index(["metric", "perturbation", "cell_type"])["value"]
    other = expected.scores.set_index(["metric", "perturbation", "cell_type"])["value"]
    assert one.reindex(other.index).to_numpy() == pytest.approx(other.to_numpy())


def test_no_covariates(observed, predicted):
    result = evaluate({"m": predicted}, observed, covariate_keys=[])
    assert list(result.scores.columns) == ["model", "metric", "perturbation", "value"]
    assert len(result.scores) == 4 * 4


def test_numeric_covariates(observed, predicted):
    for adata in (observed, predicted):
        adata.obs["day"] = np.where(adata.obs["cell_type"] == "s", 2, 10)
    predicted.obs["day"] = predicted.obs["day"].astype(str)
    result = evaluate({"m": predicted}, observed, covariate_keys=["day"])
    assert result.summary.to_numpy() == pytest.approx(evaluate({"m": predicted}, observed).summary.to_numpy())


def test_no_predictions(observed):
    with pytest.raises(PerturbenchError, match="no predictions given"):
        evaluate({}, observed)


def test_unknown_metric_lists_the_choices(observed):
    with pytest.raises(PerturbenchError, match=r"unknown metric 'mmd'; choose .*rmse_average.*mmd_pca"):
        evaluate({"m": observed}, observed, metrics=["mmd"])


def test_registered_metric_is_computed(observed, predicted, registry):
    @register_comparison("worst", better="lower")
    def worst(observed, predicted):
        return np.abs(observed - predicted).max(axis=-1)

    result = evaluate({"m": predicted}, observed, metrics=["worst_average", "worst_rank_average", "rmse_average"])
    assert list(result.summary.columns) == ["worst_average", "worst_rank_average", "rmse_average"]
    assert (scores_of(result, "worst_average") >= scores_of(result, "rmse_average")).all()
    assert set(
        scores_of(evaluate({"m": observed}, observed, metrics=["worst_rank_average"]), "worst_rank_average")
    ) == {0}


def test_undefined_is_counted(observed, predicted):
    few = predicted[predicted.obs["condition"] == "A"].copy()
    result = evaluate({"all": predicted, "few": few}, observed, metrics=["rmse_average"], missing="report")
    assert result.undefined.loc["all", "rmse_average"] == 0
    assert 0 < result.undefined.loc["few", "rmse_average"] < 1


@pytest.mark.parametrize("name", ["top_k_recall_scores", "de_overlap", "de_auprc", "energy_pca", "rmse_scaled", "var"])
def test_means_alone_do_not_do_for_metrics_of_cells(reference, name):
    metric = available_metrics()["rmse_var" if name == "var" else name]
    with pytest.raises(PerturbenchError, match="need single cells, but 'attack' has only the mean of each pair"):
        score(predict_means(reference, reference.means), reference, [metric])
