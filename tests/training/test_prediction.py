"""Predictions that a table asks for."""

import gc
import weakref

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch

from perturbench.data import PerturbationDataModule, simulate
from perturbench.data.groups import Keys
from perturbench.data.splits import SplitRules, split_cells
from perturbench.errors import PerturbenchError
from perturbench.preprocessing import prepare
from perturbench.training import fit, load_model, predict, predict_queries
from perturbench.training.checkpoints import build_model

TARGET = "perturbench.models.latent_additive.LatentAdditive"


@pytest.fixture(scope="module")
def cells():
    return prepare(simulate(n_cells=600, n_genes=30, n_states=3, n_singles=6, n_doubles=4, seed=1), Keys())


@pytest.fixture(scope="module")
def module(cells):
    split = split_cells(cells.obs, Keys(), "transfer", SplitRules(max_heldout_fraction_per_covariate=0.5), 0)
    return PerturbationDataModule(cells, split, Keys(), batch_size=64, max_control_cells=10)


@pytest.fixture(scope="module")
def model(module):
    L.seed_everything(0, verbose=False)
    network = build_model(TARGET, module.context, {"n_layers": 1, "encoder_width": 8, "latent_dim": 4})
    return load_model(fit(network, module, max_epochs=2, min_epochs=1, accelerator="cpu"))


def wanted(*rows):
    return pd.DataFrame(rows, columns=["condition", "cell_type"])


def ask(model, cells, table, **options):
    return predict_queries(model, cells, table, accelerator="cpu", **options)


@pytest.fixture(scope="module")
def double(module):
    """A combination of two known singles that no cell has."""
    singles = module.context["perturbation_uniques"]
    names = [f"{a}+{b}" for a in singles for b in singles if a < b]
    return next(name for name in names if name not in module.groups.conditions)


def test_every_control_cell_of_the_state_under_each_wanted_perturbation(model, module, cells, double):
    first, second = double.split("+")
    predicted = ask(model, cells, wanted((f"{second}+{first}", "state2"), (first, "state1")))
    controls = cells[cells.obs["condition"] == "control"]
    expected = [(double, "state2"), (first, "state1")]
    counts = [int((controls.obs["cell_type"] == state).sum()) for _, state in expected]
    assert (
        list(predicted.obs[["condition", "cell_type"]].drop_duplicates().itertuples(index=False, name=None)) == expected
    )
    assert predicted.n_obs == sum(counts)
    own = controls[controls.obs["cell_type"] == "state2"]
    assert predicted.obs["control_cell"].tolist()[: counts[0]] == own.obs_names.tolist()
    dataset = module.observed("train")
    hot = torch.zeros(counts[0], model.n_perturbations)
    hot[:, [module.context["perturbation_uniques"].index(name) for name in (first, second)]] = 1
    batch = dataset[:1]._replace(perturbations=hot, controls=torch.from_numpy(own.X.toarray()), gene_expression=None)
    with torch.no_grad():
        assert predicted.X[: counts[0]] == pytest.approx(model.predict(batch).numpy(), abs=1e-5)
    assert list(predicted.var_names) == list(cells.var_names)


def test_pseudobulk_is_the_mean_of_the_cells(model, cells, double):
    table = wanted((double, "state2"), (double, "state1"), ("control", "state3"))
    one, all_cells = ask(model, cells, table, output="pseudobulk", batch_size=7), ask(model, cells, table)
    for row, (condition, state) in enumerate(table.itertuples(index=False, name=None)):
        own = all_cells[((all_cells.obs["condition"] == condition) & (all_cells.obs["cell_type"] == state)).to_numpy()]
        assert one.X[row] == pytest.approx(own.X.mean(axis=0), rel=1e-5)
        assert one.obs.iloc[row].tolist() == [condition, state, own.n_obs]


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
    ask(model, cells, wanted((double, "state1"), ("control", "state1")), output="pseudobulk", batch_size=10)
    assert len(alive) > 5
    assert max(alive) <= 2


def test_what_was_held_out_is_predicted_as_for_the_evaluation(model, module, cells):
    heldout = predict(model, module, accelerator="cpu")
    (state,), name = module.pairs("test")[-1]
    again = ask(model, cells, wanted((name, state)), max_control_cells=10)
    mine = ((heldout.obs["condition"] == name) & (heldout.obs["cell_type"] == state)).to_numpy()
    assert again.obs["control_cell"].tolist() == heldout.obs["control_cell"][mine].tolist()
    assert again.X == pytest.approx(heldout.X[mine], abs=1e-6)


def test_controls_are_taken_from_the_given_rows(model, module, cells, double):
    rows = module.rows["train"]
    predicted = ask(model, cells, wanted((double, "state1")), rows=rows)
    assert set(predicted.obs["control_cell"]) < set(cells.obs_names[rows])
    with pytest.raises(
        PerturbenchError, match=r"states without control cells, which predictions start from: \(state1\)"
    ):
        others = np.flatnonzero(cells.obs["cell_type"] != "state1")
        ask(model, cells, wanted((double, "state1")), rows=others)


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
        ask(model, change(cells), wanted(("control", "state1")))


def _with_obs(cells, **drop):
    changed = cells.copy()
    changed.obs = changed.obs.drop(columns=list(drop))
    return changed


def test_nothing_is_computed_for_a_table_that_is_refused(model, cells, monkeypatch):
    monkeypatch.setattr(model, "predict", lambda batch: pytest.fail("computed"))
    with pytest.raises(PerturbenchError, match="unknown perturbations: nope"):
        ask(model, cells, wanted(("nope", "state1"), ("control", "state1")))
    with pytest.raises(PerturbenchError, match="unknown output 'mean'; choose one of: cells, pseudobulk"):
        ask(model, cells, wanted(("control", "state1")), output="mean")


@pytest.mark.parametrize("output", ["cells", "pseudobulk"])
def test_predictions_that_are_no_numbers_are_refused(model, cells, double, output, monkeypatch):
    def broken(batch):
        return torch.where(batch.perturbations.sum(1, keepdim=True) == 2, torch.nan, batch.controls)

    monkeypatch.setattr(model, "predict", broken)
    with pytest.raises(PerturbenchError) as told:
        ask(model, cells, wanted(("control", "state1"), (double, "state1")), output=output)
    assert f"NaN or infinite values in {'1 of 2' if output == 'pseudobulk' else ''}" in str(told.value)
    assert f"of: {double};" in str(told.value)
