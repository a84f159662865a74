"""The names a model was trained with, and the encoding of perturbations and states with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np

from perturbench.data.groups import Keys
from perturbench.errors import PerturbenchError, listing

if TYPE_CHECKING:
    from collections.abc import Sequence

    import anndata as ad

    from perturbench.data.groups import Groups, State

Unknown = Literal["error", "ignore"]


class Context(TypedDict):
    """Names of the perturbations, covariate values and genes of a dataset, and how to encode them.

    Holds plain values only, so that it can be saved in a checkpoint.
    """

    perturbation_key: str
    perturbation_combination_delimiter: str | None
    perturbation_control_value: str | None
    covariate_keys: list[str]
    perturbation_uniques: list[str]
    covariate_uniques: dict[str, list[str]]
    gene_names: list[str]
    embedding_key: str | None
    n_embedding: int


def make_context(
    adata: ad.AnnData, groups: Groups, rows: np.ndarray | None = None, embedding_key: str | None = None
) -> Context:
    """Return the context of all cells of ``adata``, or of the given ``rows`` only.

    Raises
    ------
    PerturbenchError
        If ``embedding_key`` is not in ``obsm``.
    """
    require_embedding(adata, embedding_key)
    keys = groups.keys
    selected = slice(None) if rows is None else rows
    conditions = [groups.conditions[code] for code in np.unique(groups.condition_codes[selected])]
    states = [groups.states[code] for code in np.unique(groups.state_codes[selected])]
    return Context(
        perturbation_key=keys.perturbation,
        perturbation_combination_delimiter=keys.delimiter,
        perturbation_control_value=keys.control,
        covariate_keys=list(keys.covariates),
        perturbation_uniques=sorted({single for condition in conditions for single in keys.singles(condition)}),
        covariate_uniques={
            key: sorted({state[column] for state in states}) for column, key in enumerate(keys.covariates)
        },
        gene_names=list(adata.var_names),
        embedding_key=embedding_key,
        n_embedding=0 if embedding_key is None else int(adata.obsm[embedding_key].shape[1]),
    )


def require_embedding(adata: ad.AnnData, key: str | None) -> None:
    """Raise if an embedding is requested that ``adata`` does not have; ``key=None`` requests none.

    Raises
    ------
    PerturbenchError
        If ``key`` is not in ``obsm``.
    """
    if key is not None and key not in adata.obsm:
        raise PerturbenchError(
            f"embedding '{key}' is not in obsm; obsm has: {listing(adata.obsm)}. Set embedding_key to one of them, "
            "or compute an embedding with embedding.kind:scgpt or embedding.kind:pca."
        )


def context_keys(context: Context) -> Keys:
    """Return the ``Keys`` that a context was made with."""
    return Keys(
        perturbation=context["perturbation_key"],
        covariates=tuple(context["covariate_keys"]),
        control=context["perturbation_control_value"],
        delimiter=context["perturbation_combination_delimiter"],
    )


def multi_hot(conditions: Sequence[str], context: Context, unknown: Unknown = "error") -> np.ndarray:
    """Encode each perturbation by the single perturbations that it consists of.

    Parameters
    ----------
    conditions
        Names of perturbations; combinations are split into single perturbations.
    context
        Names to encode with; its ``perturbation_uniques`` are the columns.
    unknown
        What to do with a single perturbation that the context does not have: ``"error"`` refuses it, ``"ignore"``
        leaves it out of the encoding.

    Returns
    -------
    ``(n_conditions, n_perturbations)`` float32; the row of the control is all zeros.

    Raises
    ------
    PerturbenchError
        If ``unknown="error"`` and a perturbation is not in the context.
    """
    keys = context_keys(context)
    columns = {name: position for position, name in enumerate(context["perturbation_uniques"])}
    singles = [keys.singles(condition) for condition in conditions]
    missing = sorted({name for names in singles for name in names if name not in columns})
    if missing and unknown == "error":
        raise PerturbenchError(
            f"unknown perturbations: {listing(missing)}; the training data has {len(columns)}: "
            f"{listing(columns)}. Predict only perturbations, or combinations of perturbations, seen in training."
        )
    encoded = np.zeros((len(conditions), len(columns)), dtype=np.float32)
    for row, names in enumerate(singles):
        encoded[row, [columns[name] for name in names if name in columns]] = 1.0
    return encoded


def one_hot(states: Sequence[State], context: Context) -> dict[str, np.ndarray]:
    """One-hot encode the covariate values of states.

    Returns
    -------
    One array ``(n_states, n_values)`` float32 per covariate.

    Raises
    ------
    PerturbenchError
        If a covariate has a value that the context does not have.
    """
    encoded = {}
    for position, (key, levels) in enumerate(context["covariate_uniques"].items()):
        values = [state[position] for state in states]
        if missing := sorted(set(values) - set(levels)):
            raise PerturbenchError(
                f"unknown values of covariate '{key}': {listing(missing)}; the training data has: {listing(levels)}."
            )
        encoded[key] = np.eye(len(levels), dtype=np.float32)[[levels.index(value) for value in values]]
    return encoded


def require_same_names(model: Context, data: Context) -> None:
    """Raise unless a model that was trained with one context can read data that is encoded with another.

    Raises
    ------
    PerturbenchError
        If genes, covariates, perturbations or covariate values differ; the message names both sides.
    """
    sides = [(what, model[what], data[what]) for what in ("gene_names", "covariate_keys")]
    if all(list(of_model) == list(of_data) for _, of_model, of_data in sides):
        sides = [("perturbations", model["perturbation_uniques"], data["perturbation_uniques"])]
        sides += [
            (f"values of '{key}'", model["covariate_uniques"][key], levels)
            for key, levels in data["covariate_uniques"].items()
        ]
    for what, of_model, of_data in sides:
        if list(of_model) != list(of_data):
            raise PerturbenchError(
                f"the checkpoint does not fit the data: {what} differ. Checkpoint: {_brief(of_model)}. "
                f"Data: {_brief(of_data)}. Only in the checkpoint: {_without(of_model, of_data)}; "
                f"only in the data: {_without(of_data, of_model)} (if both are none, the order differs). "
                "Use the data that the model was trained on, or train the model on this data."
            )


def _brief(names: Sequence[str]) -> str:
    return f"{len(names)} ({listing(names, 5)})"


def _without(names: Sequence[str], others: Sequence[str]) -> str:
    return listing(sorted(set(names) - set(others)), 5)
