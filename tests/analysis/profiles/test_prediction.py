"""The predicted side: what it refuses, ignores and aligns, and how it may be stored."""

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from tests.analysis.predictions import make_cells, perturbed_cells, scores_of

from perturbench.analysis import evaluate
from perturbench.errors import PerturbenchError


def test_files_need_not_fit_in_memory(observed, predicted, tmp_path):
    for name, form in (("sparse", sp.csr_matrix), ("dense", np.asarray)):
        changed = predicted.copy()
        changed.X = form(predicted.X.toarray())
        changed[:, ::-1].copy().write_h5ad(tmp_path / f"{name}.h5ad")
        backed = ad.read_h5ad(tmp_path / f"{name}.h5ad", backed="r")
        result = evaluate({"m": backed}, observed)
        backed.file.close()
        assert result.summary.to_numpy() == pytest.approx(evaluate({"m": predicted}, observed).summary.to_numpy())


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
    results = [evaluate({"m": data}, observed).summary for data in (predicted, perturbed_cells(predicted), with_own)]
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
    parts = [predicted, make_cells(names=["Z"], seed=5), make_cells(states=("u",), names=["A"], seed=5)]
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


def test_missing_column(observed, predicted):
    del predicted.obs["cell_type"]
    with pytest.raises(PerturbenchError, match="covariate column 'cell_type' is not in obs; columns are: condition"):
        evaluate({"m": predicted}, observed)
