"""The perturbation mean baseline."""

import numpy as np
import pytest
from tests.models.small_models import fitted, predicted_effects, training_effects

from perturbench.models import PerturbationMean


def test_perturbation_mean_is_its_definition(module):
    effects = training_effects(module)
    model, dataset = fitted(PerturbationMean, module), module.counterfactuals()
    for (_, condition), found in predicted_effects(model, dataset).items():
        expected = effects.xs(condition, level=1).mean()
        assert found == pytest.approx(np.tile(expected, (len(found), 1)), abs=1e-4)
