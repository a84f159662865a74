import numpy as np
import pandas as pd
import pytest

from perturbench.analysis import anchor_scores, normalise
from perturbench.analysis.anchors import training_anchors
from perturbench.analysis.metrics.registry import resolve_metrics
from perturbench.analysis.profiles import Reference
from perturbench.data.groups import Keys
from perturbench.data.sources.simulation import simulate
from perturbench.data.splits import SplitRules, split_cells
from perturbench.preprocessing.preparation import prepare

KEYS = Keys()


@pytest.fixture(scope="module")
def parts():
    """Test cells with all controls, and training cells, of a split of combinations."""
    raw = simulate(
        n_cells=3000, n_genes=60, n_states=1, n_singles=6, n_doubles=8, effect_size=1.5, interaction_size=0.0, seed=5
    )
    cells = prepare(raw, KEYS)
    labels = split_cells(cells.obs, KEYS, "combine", SplitRules(max_heldout_fraction_per_covariate=0.7), 0).to_numpy()
    is_control = (cells.obs["condition"] == "control").to_numpy()
    return cells[(labels == "test") | is_control].copy(), cells[labels == "train"].copy()


def mean(cells, condition):
    return cells.X[(cells.obs["condition"] == condition).to_numpy()].toarray().mean(axis=0, dtype=float)


def test_definitions_by_hand(parts):
    evaluated, training = parts
    reference = Reference(evaluated, KEYS)
    anchors = training_anchors(training, KEYS, reference)
    control = mean(training, "control")
    effects = {name: mean(training, name) - control for name in set(training.obs["condition"]) - {"control"}}
    shift = np.mean(list(effects.values()), axis=0)
    assert anchors["mean_response"] == pytest.approx(reference.control_means + shift, abs=1e-5)
    for row, (_, condition) in enumerate(reference.pairs):
        a, b = condition.split("+")
        expected = reference.control_means[row] + effects[a] + effects[b]
        assert anchors["additive"][row] == pytest.approx(expected, abs=1e-5)


def test_a_single_that_training_lacks_has_no_additive_prediction(parts):
    evaluated, training = parts
    reference = Reference(evaluated, KEYS)
    gone = reference.pairs[0][1].split("+")[0]
    anchors = training_anchors(training[training.obs["condition"] != gone], KEYS, reference)
    for row, (_, condition) in enumerate(reference.pairs):
        assert np.isnan(anchors["additive"][row]).all() == (gone in condition.split("+"))


def test_anchors_are_ordered_as_they_should_be(parts):
    """On additive truth: nothing < mean response < additive < the data itself."""
    scores = anchor_scores(*parts, KEYS, resolve_metrics(["rmse_average", "pearson_delta_mean", "energy_pca"]))
    table = scores.pivot_table(index="model", columns="metric", values="value", aggfunc="mean")
    assert table.loc["additive", "rmse_average"] < table.loc["mean_response", "rmse_average"]
    assert table.loc["mean_response", "rmse_average"] < table.loc["control", "rmse_average"]
    assert table.loc["technical_duplicate", "pearson_delta_mean"] > 0.5
    assert set(scores.loc[scores["metric"] == "energy_pca", "model"]) == {"technical_duplicate"}, "it needs cells"


def test_the_halves_depend_on_the_seed_and_not_on_the_order_of_cells(parts):
    evaluated, training = parts
    metrics = resolve_metrics(["rmse_average"])
    first = anchor_scores(evaluated, training, KEYS, metrics, seed=1)
    order = np.random.default_rng(0).permutation(evaluated.n_obs)
    again = anchor_scores(evaluated[order], training, KEYS, metrics, seed=1)
    assert again["value"].to_numpy() == pytest.approx(first["value"].to_numpy(), abs=1e-9)
    other = anchor_scores(evaluated, training, KEYS, metrics, seed=2)
    assert not np.allclose(other["value"], first["value"])


def test_normalised_is_between_the_null_and_the_ceiling():
    anchors = pd.DataFrame(
        [
            ("mean_response", "rmse_average", 4.0),
            ("technical_duplicate", "rmse_average", 2.0),
            ("mean_response", "mse_average", 1.0),
            ("mean_response", "cosine_logfc", 0.5),
            ("technical_duplicate", "cosine_logfc", 0.4),
        ],
        columns=["model", "metric", "value"],
    ).assign(perturbation="P1")
    models = pd.DataFrame(
        [
            *(("null half top worse".split()[i], "rmse_average", v) for i, v in enumerate([4.0, 3.0, 2.0, 5.0])),
            ("top", "mse_average", 1.0),
            ("top", "cosine_logfc", 0.9),
        ],
        columns=["model", "metric", "value"],
    ).assign(perturbation="P1")
    table = normalise(models, anchors)
    assert table["rmse_average"].to_dict() == {"half": 0.5, "null": 0.0, "top": 1.0, "worse": -0.5}
    assert table["mse_average"].isna().all(), "no ceiling, no scale"
    assert table["cosine_logfc"].isna().all(), "a ceiling below the null is no scale"


def test_normalised_over_the_perturbations_that_all_have():
    """The null itself is 0, also where the ceiling or the model lacks perturbations."""
    rows = [("mean_response", f"P{i}", float(i + 1)) for i in range(4)] + [("technical_duplicate", "P0", 0.5)]
    anchors = pd.DataFrame(rows, columns=["model", "perturbation", "value"]).assign(metric="rmse_average")
    mine = anchors[anchors["model"] == "mean_response"].assign(model="mine")
    assert normalise(mine, anchors).loc["mine", "rmse_average"] == 0
    assert normalise(mine[mine["perturbation"] != "P0"], anchors).isna().all(axis=None)
