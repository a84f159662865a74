"""The additive baseline."""

import numpy as np
import pytest
from tests.models.small_models import fitted, predicted_effects, training_effects

from perturbench.data import PerturbationDataModule
from perturbench.data.groups import Keys
from perturbench.data.splits import SplitRules, split_cells
from perturbench.models import Additive


def test_additive_is_its_definition(cells):
    split = split_cells(cells.obs, Keys(), "combine", SplitRules(max_heldout_fraction_per_covariate=0.7), 0)
    module = PerturbationDataModule(cells, split, Keys(), max_control_cells=5)
    effects = training_effects(module)
    model, dataset = fitted(Additive, module), module.counterfactuals()
    assert any("+" in condition for _, condition in dataset.pairs)
    for ((state,), condition), found in predicted_effects(model, dataset).items():
        expected = effects.loc[[(state, single) for single in condition.split("+")]].sum()
        assert found == pytest.approx(np.tile(expected, (len(found), 1)), abs=1e-4)


def test_additive_takes_a_single_from_other_states(module):
    effects = training_effects(module)
    model, dataset = fitted(Additive, module), module.counterfactuals()
    for (_, condition), found in predicted_effects(model, dataset).items():
        if "+" not in condition:
            expected = effects.xs(condition, level=1).mean()
            assert found[0] == pytest.approx(expected.to_numpy(), abs=1e-4)
