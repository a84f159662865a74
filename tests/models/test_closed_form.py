"""What all closed-form models share."""

import torch
from tests.models.small_models import fitted

from perturbench.models import Additive, PerturbationMean, Ridge


def test_control_cells_are_left_alone(module):
    batch = module.observed("train")[:]
    unperturbed = ~batch.perturbations.bool().any(dim=1)
    for cls in (PerturbationMean, Additive, Ridge):
        predicted = fitted(cls, module).predict(batch)
        assert torch.equal(predicted[unperturbed], batch.controls[unperturbed])
        assert not torch.equal(predicted[~unperturbed], batch.controls[~unperturbed])
