import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from perturbench.analysis import evaluate, register_comparison
from perturbench.errors import PerturbenchError

DEFAULT = ["rmse_average", "rmse_rank_average", "cosine_logfc", "cosine_rank_logfc"]
NAMES = ["control", "A", "B", "A+B", "C"]


def cells(states=("s", "t"), names=NAMES, n=6, n_genes=12, seed=0, labels=0):
    """Return log-normalised cells whose groups differ: ``labels`` draws the groups' means, ``seed`` the noise."""
    rows = [(name, state) for state in states for name in names for _ in range(n)]
    obs = pd.DataFrame(rows, columns=["condition", "cell_type"], index=[f"c{i}" for i in range(len(rows))])
    groups = obs.groupby(["condition", "cell_type"]).ngroup().to_numpy()
    means = np.random.default_rng(labels).gamma(1, 1, (len(rows), n_genes))[groups]
    x = np.random.default_rng(seed).poisson(means * 3).astype(np.float32)
    genes = pd.DataFrame(index=[f"g{i}" for i in range(n_genes)])
    return ad.AnnData(sp.csr_matrix(np.log1p(x)), obs=obs, var=genes)


def perturbed(adata):
    return adata[(adata.obs["condition"] != "control").to_numpy()].copy()


def scores_of(result, metric, **where):
    table = result.scores[result.scores["metric"] == metric]
    for name, value in where.items():
        table = table[table[name] == value]
    return table["value"].to_numpy()


@pytest.fixture
def observed():
    return cells()


@pytest.fixture
def predicted():
    return cells(seed=1)


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
    reference = cells(states=("s",), names=["control", "A"])
    result = evaluate({"m": cells(states=("s",), names=["A"], seed=1)}, reference)
    assert np.isnan(scores_of(result, "rmse_rank_average")).tolist() == [True]
    assert np.isnan(result.summary.loc["m", "rmse_rank_average"])
    assert result.summary.loc["m", "rmse_average"] > 0


def test_ranks_are_within_a_state():
    # State t alone has a second perturbation like A in s: it must not count there.
    observed = cells()
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
    observed, predicted = cells(n=4, labels=seed % 97), cells(n=3, seed=1 + seed % 97, labels=3)
    changed = predicted[rng.permutation(predicted.n_obs)][:, rng.permutation(predicted.n_vars)].copy()
    changed.X = form(changed.X.toarray())
    reference = observed[rng.permutation(observed.n_obs)].copy()
    reference.X = form(reference.X.toarray())
    one, other = evaluate({"m": predicted}, observed).scores, evaluate({"m": changed}, reference).scores
    assert one.drop(columns="value").equals(other.drop(columns="value"))
    assert other["value"].to_numpy() == pytest.approx(one["value"].to_numpy(), abs=1e-9, nan_ok=True)


def test_gene_order_of_the_reference_does_not_matter(observed, predicted):
    turned = observed[:, ::-1].copy()
    one, other = evaluate({"m": predicted}, observed), evaluate({"m": predicted}, turned)
    assert other.summary.to_numpy() == pytest.approx(one.summary.to_numpy())


def test_files_need_not_fit_in_memory(observed, predicted, tmp_path):
    for name, form in (("sparse", sp.csr_matrix), ("dense", np.asarray)):
        changed = predicted.copy()
        changed.X = form(predicted.X.toarray())
        changed[:, ::-1].copy().write_h5ad(tmp_path / f"{name}.h5ad")
        backed = ad.read_h5ad(tmp_path / f"{name}.h5ad", backed="r")
        result = evaluate({"m": backed}, observed)
        backed.file.close()
        assert result.summary.to_numpy() == pytest.approx(evaluate({"m": predicted}, observed).summary.to_numpy())


def test_backed_reference(observed, predicted, tmp_path):
    observed.write_h5ad(tmp_path / "reference.h5ad")
    backed = ad.read_h5ad(tmp_path / "reference.h5ad", backed="r")
    result = evaluate({"m": predicted}, backed)
    backed.file.close()
    assert result.summary.equals(evaluate({"m": predicted}, observed).summary)


def test_pseudobulks_score_like_their_cells(observed, predicted):
    groups = predicted.obs.groupby(["condition", "cell_type"]).indices
    bulk = ad.AnnData(
        np.stack([predicted.X[rows].toarray().astype(float).mean(axis=0) for rows in groups.values()]),
        obs=pd.DataFrame(list(groups), columns=["condition", "cell_type"]).rename(index=str),
        var=predicted.var,
    )
    one, other = (evaluate({"m": data}, observed).summary.to_numpy() for data in (predicted, bulk))
    assert other == pytest.approx(one)


def test_predicted_controls_are_not_used(observed, predicted):
    with_own = predicted.copy()
    control = (with_own.obs["condition"] == "control").to_numpy()
    x = with_own.X.toarray()
    x[control] = 100
    with_own.X = x
    results = [evaluate({"m": data}, observed).summary for data in (predicted, perturbed(predicted), with_own)]
    assert results[0].equals(results[1])
    assert results[0].equals(results[2])


def test_values_that_are_not_evaluated_need_not_be_finite(observed, predicted):
    control = (predicted.obs["condition"] == "control").to_numpy()
    x = predicted.X.toarray()
    x[control] = np.nan
    odd = predicted.copy()
    odd.X = x
    assert evaluate({"m": odd}, observed).summary.equals(evaluate({"m": predicted}, observed).summary)


@pytest.mark.parametrize("form", [sp.csr_matrix, np.asarray])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_predictions_that_are_not_finite(observed, predicted, form, value):
    x = predicted.X.toarray()
    rows = np.flatnonzero((predicted.obs["condition"] == "B") & (predicted.obs["cell_type"] == "t"))
    x[rows[0], [1, 2]] = value
    x[rows[1], 0] = value
    predicted.X = form(x)
    with pytest.raises(
        PerturbenchError, match=r"'mine' has 3 predicted values that are NaN or infinite, the first for B in \(t\)"
    ):
        evaluate({"mine": predicted}, observed)


@pytest.mark.parametrize("name", ["control", "A"])
def test_observations_that_are_not_finite(observed, predicted, name):
    row = np.flatnonzero(observed.obs["condition"] == name)[0]
    x = observed.X.toarray()
    x[row, 3] = np.nan
    observed.X = x
    with pytest.raises(PerturbenchError, match="NaN"):
        evaluate({"m": predicted}, observed)


def test_negative_means_are_refused_or_clipped(observed, predicted):
    rows = np.flatnonzero((predicted.obs["condition"] == "C") & (predicted.obs["cell_type"] == "s"))
    x = predicted.X.toarray()
    x[rows, :2] = [-0.5, -0.25]
    predicted.X = x
    with pytest.raises(
        PerturbenchError, match=r"'m' predicts 2 negative means .*the lowest -0\.5, the first for C in \(s\); .*'clip'"
    ):
        evaluate({"m": predicted}, observed)
    clipped = predicted.copy()
    clipped.X = np.maximum(x, 0)
    result, expected = (evaluate({"m": data}, observed, negative="clip") for data in (predicted, clipped))
    for metric in ("cosine_logfc", "cosine_rank_logfc"):
        assert np.array_equal(scores_of(result, metric), scores_of(expected, metric))
    assert (scores_of(result, "rmse_average") != scores_of(expected, "rmse_average")).sum() == 1


def test_negative_means_without_logarithms(observed, predicted):
    predicted.X = predicted.X.toarray() - 3
    summary = evaluate({"m": predicted}, observed, metrics=["rmse_average"]).summary
    assert summary.loc["m", "rmse_average"] > 2


def test_cells_may_be_negative_where_means_are_not(observed):
    shifted = observed.copy()
    x = shifted.X.toarray() + 5
    x[::2] -= 8
    shifted.X = x
    assert np.isfinite(evaluate({"m": shifted}, observed).summary.to_numpy()).all()


@pytest.mark.parametrize(("option", "value"), [("negative", "ignore"), ("missing", "drop")])
def test_unknown_option(observed, option, value):
    with pytest.raises(PerturbenchError, match=f"unknown {option} '{value}'; choose one of: "):
        evaluate({"m": observed}, observed, **{option: value})


def test_missing_pair_is_refused_or_reported(observed, predicted, caplog):
    left = predicted[~((predicted.obs["condition"] == "B") & (predicted.obs["cell_type"] == "t")).to_numpy()].copy()
    with pytest.raises(PerturbenchError, match=r"'m' has no cells for 1 of 8 pairs: B in \(t\); .*missing='report'"):
        evaluate({"m": left}, observed)
    with caplog.at_level(logging.WARNING):
        result = evaluate({"m": left}, observed, missing="report")
    assert "'m' has no cells for 1 of 8 pairs: B in (t); they are scored NaN" in caplog.text
    full = evaluate({"m": predicted}, observed)
    gone = ((result.scores["perturbation"] == "B") & (result.scores["cell_type"] == "t")).to_numpy()
    assert gone.sum() == 4
    assert result.scores.loc[gone, "value"].isna().all()
    assert result.scores.loc[~gone, "value"].notna().all()
    fit = ~gone & ~result.scores["metric"].str.contains("rank").to_numpy()
    assert result.scores.loc[fit, "value"].equals(full.scores.loc[fit, "value"])
    # The others of the state rank among those that were predicted.
    others = observed[~((observed.obs["condition"] == "B") & (observed.obs["cell_type"] == "t")).to_numpy()]
    assert result.scores.loc[~gone, "value"].tolist() == evaluate({"m": left}, others).scores["value"].tolist()


def test_everything_missing_is_refused(observed, predicted):
    predicted.obs["condition"] = "Z"
    for missing in ("refuse", "report"):
        with pytest.raises(PerturbenchError, match="no cells for 8 of 8 pairs"):
            evaluate({"m": predicted}, observed, missing=missing)


def test_more_than_asked_for_is_ignored(observed, predicted):
    parts = [predicted, cells(names=["Z"], seed=5), cells(states=("u",), names=["A"], seed=5)]
    extra = ad.concat(parts, index_unique="-")
    more_genes = ad.concat([extra, ad.AnnData(np.ones((extra.n_obs, 2)), obs=extra.obs[[]])], axis=1, merge="first")
    more_genes.obs = extra.obs
    more_genes.var_names = [*extra.var_names, "new1", "new2"]
    more_genes = more_genes[:, ::-1].copy()
    assert more_genes.n_vars == 14
    expected = evaluate({"m": predicted}, observed).summary.to_numpy()
    assert evaluate({"m": more_genes}, observed).summary.to_numpy() == pytest.approx(expected)


def test_missing_genes(observed, predicted):
    with pytest.raises(PerturbenchError, match="'m' lacks 2 of 12 genes of the reference: g0, g5; predict all"):
        evaluate({"m": predicted[:, [i for i in range(12) if i not in (0, 5)]]}, observed)


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_duplicate_genes(observed, predicted):
    predicted.var_names = ["g1", *predicted.var_names[1:]]
    with pytest.raises(PerturbenchError, match="'m' has gene names that occur more than once: g1"):
        evaluate({"m": predicted}, observed)


def test_combinations_are_sets(observed, predicted):
    turned = predicted.copy()
    turned.obs["condition"] = turned.obs["condition"].astype(str).replace("A+B", "B+A")
    assert evaluate({"m": turned}, observed).summary.equals(evaluate({"m": predicted}, observed).summary)


def test_names_are_never_taken_apart():
    rename = {"control": "control_1", "A": "B_A", "B": "B", "C": "β knock out", "A+B": "B_A_B"}
    plain, plain_prediction = cells(states=("s", "t")), cells(states=("s", "t"), seed=1)
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


@pytest.mark.parametrize("name", ["model", "value"])
def test_covariate_named_like_a_column_of_the_scores(observed, predicted, name):
    for adata in (observed, predicted):
        adata.obs[name] = adata.obs["cell_type"]
    with pytest.raises(PerturbenchError, match=name):
        evaluate({"m": predicted}, observed, covariate_keys=[name])


def test_reference_without_controls(observed, predicted):
    keep = ~((observed.obs["condition"] == "control") & (observed.obs["cell_type"] == "t"))
    with pytest.raises(PerturbenchError, match=r"the reference has no control cells \('control'\) in: .*t"):
        evaluate({"m": predicted}, observed[keep.to_numpy()])


def test_reference_without_perturbed_cells(observed, predicted):
    with pytest.raises(PerturbenchError, match="the reference has no perturbed cells"):
        evaluate({"m": predicted}, observed[(observed.obs["condition"] == "control").to_numpy()])


def test_missing_column(observed, predicted):
    del predicted.obs["cell_type"]
    with pytest.raises(PerturbenchError, match="covariate column 'cell_type' is not in obs; columns are: condition"):
        evaluate({"m": predicted}, observed)


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


def one_name(cov_pert):
    """Sort the singles of a published group name, which the published code leaves in the order they came."""
    state, _, condition = cov_pert.rpartition("_")
    return f"{state}_{'+'.join(sorted(condition.split('+')))}"


@pytest.fixture(scope="module")
def oracle(shared):
    """Return our scores and the published code's of each case and prediction, side by side."""
    published = pd.read_parquet(shared / "oracle/evals.parquet").rename(columns={"value": "published"})
    ranks = pd.read_parquet(shared / "oracle/ranks.parquet")
    where = ["case", "model", "aggregation", "metric", "cov_pert"]
    for table in (published, ranks):
        table["cov_pert"] = table["cov_pert"].map(one_name)
    tables = []
    for case, keys in (("cov1", ["cell_type"]), ("nocov", [])):
        folder = shared / "oracle/inputs" / case
        reference = ad.read_h5ad(folder / "ref.h5ad")
        for path in sorted(folder.glob("pred_*.h5ad")):
            result = evaluate(
                {path.stem.removeprefix("pred_"): ad.read_h5ad(path)},
                reference,
                covariate_keys=keys,
                negative="clip",
                missing="report",
            )
            tables.append(result.scores.assign(case=case))
    ours = pd.concat(tables, ignore_index=True)
    ours["cov_pert"] = ours["cell_type"].fillna("") + "_" + ours["perturbation"]
    parts = ours["metric"].str.extract(r"^(?P<metric>[a-z]+)_(?P<rank>rank_)?(?P<aggregation>[a-z]+)$")
    ours = pd.concat([ours.drop(columns="metric"), parts], axis=1)
    values = ours[ours["rank"].isna()].merge(published, on=where)
    return values, ours[ours["rank"].notna()].merge(ranks, on=where)


# The published code takes the prediction's own controls, and cannot compare what has no direction.
COMPARABLE = {
    "average": {
        "perfect",
        "half",
        "half_ownctrl",
        "shuffled",
        "ctrl_mean",
        "ctrl_noise",
        "ctrl_minus",
        "pert_mean",
        "missing",
    },
    "logfc": {"perfect", "half", "shuffled", "pert_mean", "missing"},
}


@pytest.mark.shared
@pytest.mark.parametrize(("metric", "aggregation"), [("rmse", "average"), ("cosine", "logfc")])
def test_values_agree_with_the_published_code(oracle, metric, aggregation):
    values, _ = oracle
    chosen = values[(values["metric"] == metric) & (values["aggregation"] == aggregation)]
    for model in COMPARABLE[aggregation]:
        own = chosen[chosen["model"] == model]
        assert len(own) == (51 + 28 if model == "missing" else 60 + 33)
        worst = (own["value"] - own["published"]).abs().max()
        assert own["value"].to_numpy() == pytest.approx(own["published"].to_numpy(), rel=1e-5, abs=2e-6), (model, worst)


@pytest.mark.shared
@pytest.mark.parametrize(("metric", "aggregation"), [("rmse", "average"), ("cosine", "logfc")])
def test_ranks_agree_with_the_published_code(oracle, metric, aggregation):
    # Neither count of the published table includes the right prediction itself.
    _, ranks = oracle
    chosen = ranks[(ranks["metric"] == metric) & (ranks["aggregation"] == aggregation)]
    for model in COMPARABLE[aggregation]:
        own = chosen[chosen["model"] == model]
        assert len(own) == (51 + 28 if model == "missing" else 60 + 33)
        low = own["n_strictly_better"] / (own["n"] - 1)
        high = own["n_better_or_tied"] / (own["n"] - 1)
        assert ((low - 1e-9 <= own["value"]) & (own["value"] <= high + 1e-9)).all(), model
        halfway = (own["n_strictly_better"] + own["n_better_or_tied"]) / 2 / (own["n"] - 1)
        assert own["value"].to_numpy() == pytest.approx(halfway.to_numpy()), model


def test_per_state(observed, predicted):
    result = evaluate({"m": predicted}, observed, metrics=["rmse_average", "matrix_distance_logfc"])
    table = result.per_state()
    assert set(table["metric"]) == {"rmse_average"}, "a value of the whole split has no state"
    for row in table.to_dict("records"):
        own = result.scores[
            (result.scores["cell_type"] == row["cell_type"]) & (result.scores["metric"] == row["metric"])
        ]
        assert row["mean"] == pytest.approx(own["value"].mean())
        assert row["n"] == len(own)
        if row["n"] > 1:
            assert row["standard_error"] == pytest.approx(own["value"].std() / np.sqrt(len(own)))


def test_undefined_is_counted(observed, predicted):
    few = predicted[predicted.obs["condition"] == "A"].copy()
    result = evaluate({"all": predicted, "few": few}, observed, metrics=["rmse_average"], missing="report")
    assert result.undefined.loc["all", "rmse_average"] == 0
    assert 0 < result.undefined.loc["few", "rmse_average"] < 1
