import anndata as ad
import numpy as np
import pandas as pd
import pytest

from perturbench.analysis.metrics.collapse import similarity_table
from perturbench.analysis.profiles import Prediction, Reference
from perturbench.data.groups import Keys


@pytest.fixture
def reference():
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


def test_alike_effects_are_beside_each_other(reference):
    table = similarity_table(reference, Prediction("perfect", reference, reference.means))
    assert set(table["state"]) == {"s1"}, "a state with one perturbation has nothing to compare"
    order = list(table["perturbation"].unique())
    assert abs(order.index("A") - order.index("B")) == 1
    matrix = table.pivot(index="perturbation", columns="other", values="observed")
    assert matrix.loc["A", "B"] > 0.95
    assert matrix.loc["A", "C"] < -0.9
    assert np.allclose(table["observed"], table["predicted"])


def test_a_collapsed_model_predicts_one_effect(reference):
    same = np.tile(reference.means.mean(axis=0) * 2, (len(reference.pairs), 1))
    table = similarity_table(reference, Prediction("collapsed", reference, same))
    assert table["predicted"].min() == pytest.approx(1)


def test_perturbations_with_most_cells_are_shown(reference):
    table = similarity_table(reference, Prediction("p", reference, reference.means), limit=2)
    assert set(table["perturbation"]) == {"A", "C"}


def test_negative_and_missing_means_are_no_failure(reference):
    means = reference.means.copy()
    means[0, 0] = -1.0
    means[1] = np.nan
    table = similarity_table(reference, Prediction("p", reference, means, negative="refuse"))
    absent = reference.pairs[1][1]
    assert table.loc[table["perturbation"] == absent, "predicted"].isna().all()
    assert table.loc[(table["perturbation"] != absent) & (table["other"] != absent), "predicted"].notna().all()
