"""The multi-layer perceptron."""

import pytest
import torch
from torch import nn

from perturbench.models.nn import MLP


@pytest.mark.parametrize("n_layers", [1, 3])
def test_blocks_and_widths(n_layers):
    mlp = MLP(5, 8, 2, n_layers)
    linear = [(layer.in_features, layer.out_features) for layer in mlp if isinstance(layer, nn.Linear)]
    assert linear == [(5, 8), *[(8, 8)] * n_layers, (8, 2)]
    assert [type(layer) for layer in mlp][1:-1] == [nn.Linear, nn.LayerNorm, nn.ReLU] * n_layers
    assert mlp(torch.zeros(4, 5)).shape == (4, 2)


@pytest.mark.parametrize(("dropout", "rates"), [(None, []), (0.0, []), (0.3, [0.3, 0.3])])
def test_dropout_in_each_block(dropout, rates):
    assert [layer.p for layer in MLP(5, 8, 2, 2, dropout) if isinstance(layer, nn.Dropout)] == rates


@pytest.mark.parametrize("learned", [True, False])
def test_layer_norms_learn_a_scale_and_shift_if_asked(learned):
    norms = [layer for layer in MLP(5, 8, 2, 2, elementwise_affine=learned) if isinstance(layer, nn.LayerNorm)]
    assert [norm.weight is not None for norm in norms] == [learned] * 2


def test_an_mlp_without_blocks_is_refused():
    with pytest.raises(ValueError, match="n_layers is 0; a network needs at least 1 block"):
        MLP(5, 8, 2, 0)
