"""The mean response baseline."""

import numpy as np
import pytest
import torch
from tests.models.small_models import train, trained

from perturbench.data import PerturbationDataModule
from perturbench.data.groups import Keys
from perturbench.data.splits import SplitRules, split_cells
from perturbench.training.checkpoints import load_model


def test_mean_response_is_its_definition(module):
    model = trained("mean_response")
    training_cells = module.adata[module.rows["train"]]
    x, obs = training_cells.X.toarray().astype(np.float64), training_cells.obs
    dataset = module.counterfactuals()
    for pair, (state, _) in enumerate(dataset.pairs):
        in_state = (obs["cell_type"] == state[0]).to_numpy()
        control = x[in_state & (obs["condition"] == "control").to_numpy()].mean(axis=0)
        names = sorted(set(obs.loc[in_state, "condition"]) - {"control"})
        effects = [x[in_state & (obs["condition"] == name).to_numpy()].mean(axis=0) - control for name in names]
        batch = dataset[np.flatnonzero(dataset[:].groups.numpy() == pair)]
        expected = batch.controls.numpy() + np.mean(effects, axis=0)
        assert model.predict(batch).numpy() == pytest.approx(expected, abs=1e-5)
    observed = module.observed("train")[:]
    unperturbed = ~observed.perturbations.bool().any(dim=1)
    assert torch.equal(model.predict(observed)[unperturbed], observed.controls[unperturbed])


def test_mean_response_of_a_state_without_perturbations(cells):
    split = split_cells(cells.obs, Keys(), "manual", SplitRules(heldout_states=[{"cell_type": "state1"}]), 0)
    removed = (cells.obs["cell_type"] == "state2") & (cells.obs["condition"] != "control")
    split[removed.to_numpy()] = np.nan
    module = PerturbationDataModule(cells, split, Keys())
    shift = load_model(train("mean_response", module)).shift
    assert module.context["covariate_uniques"]["cell_type"] == ["state1", "state2", "state3"]
    assert shift[1].numpy() == pytest.approx(shift[[0, 2]].mean(dim=0).numpy(), abs=1e-6)
