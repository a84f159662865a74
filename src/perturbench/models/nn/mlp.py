"""The multi-layer perceptron that all networks are built from."""

from __future__ import annotations

from torch import nn


class MLP(nn.Sequential):
    """A Linear layer, then blocks of Linear, LayerNorm, ReLU and Dropout, and a last Linear layer.

    Nothing lies between the first layer and the first block, so the first layer adds no function, but it makes training
    faster, and the published hyperparameters were found with it.

    Parameters
    ----------
    n_input, n_hidden, n_output
        Width of the input, of the hidden layers and of the output.
    n_layers
        Number of blocks.
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
        super().__init__(
            nn.Linear(n_input, n_hidden),
            *blocks(n_hidden, n_hidden, n_layers, dropout, elementwise_affine),
            nn.Linear(n_hidden, n_output),
        )


def blocks(
    n_input: int, n_hidden: int, n_layers: int, dropout: float | None, elementwise_affine: bool
) -> list[nn.Module]:
    """Return blocks of Linear, LayerNorm, ReLU and Dropout; the first maps the input to the hidden width.

    Raises
    ------
    ValueError
        If ``n_layers`` is below 1.
    """
    if n_layers < 1:
        raise ValueError(f"n_layers is {n_layers}; a network needs at least 1 block.")
    layers: list[nn.Module] = []
    for width in [n_input] + [n_hidden] * (n_layers - 1):
        layers += [
            nn.Linear(width, n_hidden),
            nn.LayerNorm(n_hidden, elementwise_affine=elementwise_affine),
            nn.ReLU(),
        ]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return layers
