"""Encoding of a single cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from perturbench.data.encoding import context_keys, multi_hot, one_hot
from perturbench.data.types import Batch

if TYPE_CHECKING:
    from perturbench.data.encoding import Context
    from perturbench.data.types import Example


def encode_example(example: Example, context: Context) -> Batch:
    """Encode one cell as a batch of size one.

    Raises
    ------
    PerturbenchError
        If a perturbation or covariate value is not in the context.
    """
    keys = context_keys(context)
    condition = (keys.delimiter or "").join(example.perturbations) or str(keys.control)
    covariates = one_hot([tuple(example.covariates[key] for key in keys.covariates)], context)
    is_counterfactual = example.gene_expression is None
    embeddings = _with_batch_axis(example.embeddings)
    return Batch(
        gene_expression=_with_batch_axis(example.gene_expression),
        perturbations=torch.from_numpy(multi_hot([condition], context)),
        covariates={key: torch.from_numpy(values) for key, values in covariates.items()},
        controls=_with_batch_axis(example.controls),
        ids=np.array([example.id]),
        gene_names=np.array(context["gene_names"]),
        embeddings=embeddings,
        control_embeddings=embeddings if is_counterfactual else None,
        groups=torch.zeros(1, dtype=torch.long) if is_counterfactual else None,
    )


def _with_batch_axis(values: torch.Tensor | None) -> torch.Tensor | None:
    return None if values is None else values[None]
