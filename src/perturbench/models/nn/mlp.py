"""The multi-layer perceptron that all networks are built from."""

from __future__ import annotations

from torch import nn


class MLP(nn.Sequential):
    """Blocks of Linear, LayerNorm, ReLU and Dropout, followed by a Linear layer.

    Parameters
    ----------
    n_input, n_hidden, n_output
        Width of the input, of the hidden layers and of the output.
    n_layers
        Number of blocks; the first maps the input to the hidden width, the others keep the hidden width.
    dropout
        Dropout rate of each block; ``None`` or 0 for no dropout.
    elementwise_affine
        Whether the layer norms learn a scale and a shift.

    Raises
    ------
    ValueError
        If ``n_layers`` is below 1.
    """

    def __init__(
        self,
        n_input: int,
        n_hidden: int,
        n_output: int,
        n_layers: int,
        dropout: float | None = None,
        elementwise_affine: bool = False,
    ) -> None:
        if n_layers < 1:
            raise ValueError(f"n_layers is {n_layers}; an MLP needs at least 1 block.")
        layers: list[nn.Module] = []
        for width in [n_input] + [n_hidden] * (n_layers - 1):
            layers += [
                nn.Linear(width, n_hidden),
                nn.LayerNorm(n_hidden, elementwise_affine=elementwise_affine),
                nn.ReLU(),
            ]
            if dropout:
                layers.append(nn.Dropout(dropout))
        super().__init__(*layers, nn.Linear(n_hidden, n_output))
