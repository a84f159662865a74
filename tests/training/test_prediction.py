"""Predictions of the parts of a split, and of queries."""

import gc
import weakref

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from tests.models.small_models import all_models, make_module, observed_cells, pairs_of, train, trained

from perturbench.analysis import evaluate
from perturbench.data import PerturbationDataModule
from perturbench.data.groups import Keys
from perturbench.errors import PerturbenchError
from perturbench.training import predict_queries
from perturbench.training.checkpoints import load_model
from perturbench.training.prediction import predict


@pytest.fixture(scope="module")
def model():
    """A model without covariates, so that its predictions are known from controls and perturbations alone."""
    return trained("latent_sparse")


@all_models
def test_prediction_is_deterministic(module, name):
    one, other = (predict(trained(name), module, accelerator="cpu") for _ in range(2))
    assert np.array_equal(one.X, other.X)
    assert np.isfinite(one.X).all()


def test_predictions_are_named():
    module = make_module(max_control_cells=None)
    predicted = predict(trained("control"), module, accelerator="cpu")
    assert list(predicted.var_names) == list(module.adata.var_names)
    assert predicted.obs_names.is_unique
    test = observed_cells(module, "test")
    controls = test[(test.obs["condition"] == "control").to_numpy()]
    counts = pairs_of(predicted, module.keys).value_counts()
    assert set(counts.index) == set(module.pairs("test"))
    for (state, _), count in counts.items():
        assert count == (controls.obs["cell_type"] == state[0]).sum()
    # The model that changes nothing shows which control cell each row is.
    assert np.array_equal(predicted.X, controls[predicted.obs["control_cell"]].X.toarray())
    assert list(predicted.obs["cell_type"]) == list(controls.obs.loc[predicted.obs["control_cell"], "cell_type"])


@pytest.mark.parametrize("part", ["train", "val"])
def test_any_part_is_predicted(module, part):
    predicted = predict(trained("linear"), module, part, accelerator="cpu")
    assert set(pairs_of(predicted, module.keys)) == set(module.pairs(part))


@pytest.mark.parametrize("name", ["mean_response", "linear"])
def test_double_with_an_unseen_component_keeps_its_name(cells, name):
    split = make_module().rows
    labels = pd.Series(np.nan, index=cells.obs_names, dtype=object)
    for part, rows in split.items():
        labels.iloc[rows] = part
    double = next(name for name in cells.obs["condition"].unique() if "+" in name)
    unseen = double.split("+")[0]
    has_unseen = cells.obs["condition"].map(lambda name: unseen in name.split("+")).to_numpy(dtype=bool)
    labels[has_unseen] = np.nan
    labels[(cells.obs["condition"] == double).to_numpy()] = "test"
    module = PerturbationDataModule(cells, labels, Keys(), batch_size=128)
    assert unseen not in module.context["perturbation_uniques"]
    predicted = predict(load_model(train(name, module)), module, accelerator="cpu")
    assert set(pairs_of(predicted, module.keys)) == set(module.pairs("test"))
    assert double in set(predicted.obs["condition"])
    evaluate({"m": predicted}, observed_cells(module, "test"), negative="clip")


def queries(*rows):
    return pd.DataFrame(rows, columns=["condition", "cell_type"])


def ask(model, cells, table, **options):
    return predict_queries(model, cells, table, accelerator="cpu", **options)


@pytest.fixture(scope="module")
def double(module):
    """A combination of two known singles that no cell has."""
    singles = module.context["perturbation_uniques"]
    names = [f"{a}+{b}" for a in singles for b in singles if a < b]
    return next(name for name in names if name not in module.groups.conditions)


def test_every_control_cell_of_the_state_under_each_queried_perturbation(model, module, cells, double):
    first, second = double.split("+")
    predicted = ask(model, cells, queries((f"{second}+{first}", "state2"), (first, "state1")))
    controls = cells[cells.obs["condition"] == "control"]
    expected = [(double, "state2"), (first, "state1")]
    counts = [int((controls.obs["cell_type"] == state).sum()) for _, state in expected]
    assert (
        list(predicted.obs[["condition", "cell_type"]].drop_duplicates().itertuples(index=False, name=None)) == expected
    )
    assert predicted.n_obs == sum(counts)
    in_state = controls[controls.obs["cell_type"] == "state2"]
    assert predicted.obs["control_cell"].tolist()[: counts[0]] == in_state.obs_names.tolist()
    dataset = module.observed("train")
    hot = torch.zeros(counts[0], model.n_perturbations)
    hot[:, [module.context["perturbation_uniques"].index(name) for name in (first, second)]] = 1
    batch = dataset[:1]._replace(
        perturbations=hot, controls=torch.from_numpy(in_state.X.toarray()), gene_expression=None
    )
    with torch.no_grad():
        assert predicted.X[: counts[0]] == pytest.approx(model.predict(batch).numpy(), abs=1e-5)
    assert list(predicted.var_names) == list(cells.var_names)


def test_pseudobulk_is_the_mean_of_the_cells(model, cells, double):
    table = queries((double, "state2"), (double, "state1"), ("control", "state3"))
    one, all_cells = ask(model, cells, table, output="pseudobulk", batch_size=7), ask(model, cells, table)
    for row, (condition, state) in enumerate(table.itertuples(index=False, name=None)):
        of_pair = all_cells[
            ((all_cells.obs["condition"] == condition) & (all_cells.obs["cell_type"] == state)).to_numpy()
        ]
        assert one.X[row] == pytest.approx(of_pair.X.mean(axis=0), rel=1e-5)
        assert one.obs.iloc[row].tolist() == [condition, state, of_pair.n_obs]


def test_pseudobulk_does_not_hold_the_cells(model, cells, double, monkeypatch):
    """A batch is gone when the next but one is predicted."""
    batches, alive = [], []
    predict_step = model.predict_step

    def watched(*arguments):
        predicted = predict_step(*arguments)
        gc.collect()
        batches.append(weakref.ref(predicted.X))
        alive.append(sum(batch() is not None for batch in batches))
        return predicted

    monkeypatch.setattr(model, "predict_step", watched)
    ask(model, cells, queries((double, "state1"), ("control", "state1")), output="pseudobulk", batch_size=10)
    assert len(alive) > 5
    assert max(alive) <= 2


def test_what_was_held_out_is_predicted_as_for_the_evaluation(model, module, cells):
    heldout = predict(model, module, accelerator="cpu")
    (state,), name = module.pairs("test")[-1]
    again = ask(model, cells, queries((name, state)), max_control_cells=10)
    of_pair = ((heldout.obs["condition"] == name) & (heldout.obs["cell_type"] == state)).to_numpy()
    assert again.obs["control_cell"].tolist() == heldout.obs["control_cell"][of_pair].tolist()
    assert again.X == pytest.approx(heldout.X[of_pair], abs=1e-6)


def test_controls_are_taken_from_the_given_rows(model, module, cells, double):
    rows = module.rows["train"]
    predicted = ask(model, cells, queries((double, "state1")), rows=rows)
    assert set(predicted.obs["control_cell"]) < set(cells.obs_names[rows])
    with pytest.raises(
        PerturbenchError, match=r"states without control cells, which predictions start from: \(state1\)"
    ):
        others = np.flatnonzero(cells.obs["cell_type"] != "state1")
        ask(model, cells, queries((double, "state1")), rows=others)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cells: cells[:, ::-1], "does not fit the data: gene_names differ"),
        (lambda cells: cells[:, :5], "does not fit the data: gene_names differ"),
        (lambda cells: _with_obs(cells, cell_type=None), "covariate column 'cell_type' is not in obs"),
    ],
)
def test_other_data_is_refused(model, cells, change, message):
    with pytest.raises(PerturbenchError, match=message):
        ask(model, change(cells), queries(("control", "state1")))


def _with_obs(cells, **drop):
    changed = cells.copy()
    changed.obs = changed.obs.drop(columns=list(drop))
    return changed


def test_nothing_is_computed_for_a_table_that_is_refused(model, cells, monkeypatch):
    monkeypatch.setattr(model, "predict", lambda batch: pytest.fail("computed"))
    with pytest.raises(PerturbenchError, match="unknown perturbations: nope"):
        ask(model, cells, queries(("nope", "state1"), ("control", "state1")))
    with pytest.raises(PerturbenchError, match="unknown output 'mean'; choose one of: cells, pseudobulk"):
        ask(model, cells, queries(("control", "state1")), output="mean")


@pytest.mark.parametrize("output", ["cells", "pseudobulk"])
def test_predictions_that_are_no_numbers_are_refused(model, cells, double, output, monkeypatch):
    def broken(batch):
        return torch.where(batch.perturbations.sum(1, keepdim=True) == 2, torch.nan, batch.controls)

    monkeypatch.setattr(model, "predict", broken)
    with pytest.raises(PerturbenchError) as raised:
        ask(model, cells, queries(("control", "state1"), (double, "state1")), output=output)
    assert f"NaN or infinite values in {'1 of 2' if output == 'pseudobulk' else ''}" in str(raised.value)
    assert f"for the perturbations {double};" in str(raised.value)


@pytest.mark.shared
def test_every_model_predicts_and_is_scored(real_checkpoints, real_module):
    predicted = {
        name: predict(load_model(real_checkpoints[name]), real_module, accelerator="cpu") for name in real_checkpoints
    }
    observed = real_module.adata[real_module.evaluation_rows("test")]
    summary = evaluate(predicted, observed, negative="clip").summary
    assert set(summary.index) == set(real_checkpoints)
    assert np.isfinite(summary["rmse_average"]).all()
    assert isinstance(predicted["cpa"], ad.AnnData)
