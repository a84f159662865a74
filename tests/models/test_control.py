"""The null model."""

import torch
from tests.models.small_models import trained


def test_predicts_the_controls(module):
    batch = module.observed("val")[:10]
    assert torch.equal(trained("control").predict(batch), batch.controls)
