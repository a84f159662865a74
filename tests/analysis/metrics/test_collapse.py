"""How similar effects are, and how a collapsed model is recognised."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from tests.analysis.predictions import predict_means, values_of

from perturbench.analysis import collapse_diagnostics
from perturbench.analysis.metrics.collapse import similarity_table
from perturbench.analysis.profiles import Prediction, Reference
from perturbench.data.groups import Keys


@pytest.fixture
def two_states():
    """Two states: A and B alike, C their opposite, D in one state alone; counts of cells differ."""
    rng = np.random.default_rng(0)
    up, down = np.repeat([2.0, 0.5], 5), np.repeat([0.5, 2.0], 5)
    means = {"control": np.ones(10), "A": up, "C": down, "B": up}
    rows = [
        (name, "s1", mean)
        for name, n in (("control", 30), ("A", 40), ("C", 30), ("B", 20))
        for _ in range(n)
        for mean in [means[name]]
    ]
    rows += [("control", "s2", means["control"])] * 30 + [("D", "s2", up)] * 30
    x = np.stack([mean for *_, mean in rows]) + rng.uniform(0, 0.1, (len(rows), 10))
    obs = pd.DataFrame({"condition": [row[0] for row in rows], "cell_type": [row[1] for row in rows]})
    obs.index = obs.index.astype(str)
    return Reference(ad.AnnData(x.astype(np.float32), obs), Keys())


def test_alike_effects_are_beside_each_other(two_states):
    table = similarity_table(two_states, Prediction("perfect", two_states, two_states.means))
    assert set(table["state"]) == {"s1"}, "a state with one perturbation has nothing to compare"
    order = list(table["perturbation"].unique())
    assert abs(order.index("A") - order.index("B")) == 1
    matrix = table.pivot(index="perturbation", columns="other", values="observed")
    assert matrix.loc["A", "B"] > 0.95
    assert matrix.loc["A", "C"] < -0.9
    assert np.allclose(table["observed"], table["predicted"])


def test_a_collapsed_model_predicts_one_effect(two_states):
    same = np.tile(two_states.means.mean(axis=0) * 2, (len(two_states.pairs), 1))
    table = similarity_table(two_states, Prediction("collapsed", two_states, same))
    assert table["predicted"].min() == pytest.approx(1)


def test_perturbations_with_most_cells_are_shown(two_states):
    table = similarity_table(two_states, Prediction("p", two_states, two_states.means), limit=2)
    assert set(table["perturbation"]) == {"A", "C"}


def test_negative_and_missing_means_are_no_failure(two_states):
    means = two_states.means.copy()
    means[0, 0] = -1.0
    means[1] = np.nan
    table = similarity_table(two_states, Prediction("p", two_states, means, negative="refuse"))
    absent = two_states.pairs[1][1]
    assert table.loc[table["perturbation"] == absent, "predicted"].isna().all()
    assert table.loc[(table["perturbation"] != absent) & (table["other"] != absent), "predicted"].notna().all()


@pytest.mark.parametrize("kind", ["constant", "controls", "mean"])
def test_a_collapsed_prediction_has_rank_one_half(cells, reference, kind):
    """Constant output, own controls and the test mean: one prediction for every perturbation of a state."""
    state_mean = np.stack([reference.means[reference.state_of_pair == s].mean(axis=0) for s in reference.state_of_pair])
    means = {"constant": np.full_like(reference.means, 0.7), "controls": reference.control_means, "mean": state_mean}
    collapsed = predict_means(reference, means[kind].copy())
    for name in ("rmse", "cosine", "pearson", "mae"):
        for aggregation in ("average", "logfc"):
            ranks = values_of(collapsed, reference, f"{name}_rank_{aggregation}")
            assert ranks.tolist() == [0.5] * len(ranks), (name, aggregation)
    transposed = values_of(collapsed, reference, "rmse_rank_transposed_average")
    assert transposed.mean() == pytest.approx(0.5), "every observation is as near to it as to its twins'"
    assert values_of(collapsed, reference, "pds_l2").mean() == pytest.approx(0.5, abs=0.1)
    diagnostics = collapse_diagnostics(reference, collapsed)
    assert diagnostics.rank == 0.5
    assert diagnostics.matrix_distance > 1
    assert diagnostics.matrix_distance_per_pair == pytest.approx(diagnostics.matrix_distance / len(reference.pairs))
    if kind != "controls":
        assert diagnostics.mean_similarity_predicted > diagnostics.mean_similarity_observed
