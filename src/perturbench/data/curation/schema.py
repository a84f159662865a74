"""What leaves curation: one schema, all of whose violations are told at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, ValidationInfo

from perturbench.data.groups import Keys, state_name
from perturbench.errors import PerturbenchError, listing

_BRACKETS = {"(": ")", "[": "]", "{": "}"}
_CHUNK = 2**24


@dataclass(frozen=True)
class _Rules:
    """What the data set at hand has to fulfil: its keys after curation and the controls of a state."""

    keys: Keys
    min_controls: int


def _check(rule: Callable[[Any, _Rules], None]) -> AfterValidator:
    def validate(value: Any, info: ValidationInfo) -> Any:
        assert info.context is not None
        rule(value, info.context["rules"])
        return value

    return AfterValidator(validate)


def _unique(what: str) -> AfterValidator:
    def rule(names: pd.Index, _: _Rules) -> None:
        if doubled := list(names[names.duplicated()].unique()):
            raise PerturbenchError(
                f"{len(doubled)} {what} names occur more than once: {listing(doubled)}; make them unique, for example "
                f"with anndata's {'obs' if what == 'cell' else 'var'}_names_make_unique()."
            )

    return _check(rule)


def _hold_counts(x: sp.csr_matrix, _: _Rules) -> None:
    kinds = ("not finite", "negative", "not whole")
    found, first = dict.fromkeys(kinds, 0), dict.fromkeys(kinds, 0.0)
    for start in range(0, x.data.size, _CHUNK):
        data = x.data[start : start + _CHUNK]
        finite = np.isfinite(data)
        for kind, bad in zip(kinds, (~finite, data < 0, finite & (data != np.round(data))), strict=True):
            if bad.any():
                first[kind] = first[kind] if found[kind] else data[bad][0]
                found[kind] += int(bad.sum())
    if wrong := [
        f"{found[kind]} values of X are {kind}, the first is {first[kind]:g}" for kind in kinds if found[kind]
    ]:
        raise PerturbenchError(
            f"{'; '.join(wrong)}; X must hold raw counts. If they are in a layer, set data.counts_layer to its name."
        )


def _have_no_gaps(columns: pd.DataFrame, _: _Rules) -> None:
    gaps = columns.isna().sum()
    if (gaps > 0).any():
        raise PerturbenchError(
            "; ".join(f"column '{name}' has no value for {n} of {len(columns)} cells" for name, n in gaps.items() if n)
            + ": fill them in or drop them."
        )


def _are_categories(columns: pd.DataFrame, _: _Rules) -> None:
    if plain := [name for name in columns if not isinstance(columns[name].dtype, pd.CategoricalDtype)]:
        raise PerturbenchError(f"columns that are no categories: {listing(plain)}.")


def _are_names(conditions: pd.Series, rules: _Rules) -> None:
    counts = conditions.value_counts()
    nameless = [name for name in counts.index if not str(name).strip()]
    problems = []
    if cells := int(counts[nameless].sum()):
        problems.append(f"{cells} cells have an empty name in 'condition'; name them or drop them")
    if broken := sorted(name for name in set(counts.index) - set(nameless) if is_broken(name, rules.keys)):
        problems.append(
            f"{len(broken)} perturbation names have the delimiter '{rules.keys.delimiter}' inside a name: "
            f"{listing(broken)}; give them another name with data.rename, or set data.delimiter to null if there are "
            "no combinations"
        )
    mixed = sorted(name for name in set(counts.index) - {*nameless, *broken} if rules.keys.canonical(str(name)) != name)
    if mixed:
        problems.append(f"{len(mixed)} combinations are not in sorted order: {listing(mixed)}")
    if problems:
        raise PerturbenchError("; ".join(problems) + ".")


def _have_controls(obs: pd.DataFrame, rules: _Rules) -> None:
    """Raise unless every state has enough controls; cells without a state are another rule's."""
    is_control = obs[rules.keys.perturbation] == rules.keys.control
    covariates = list(rules.keys.covariates)
    if not is_control.any():
        raise PerturbenchError(f"no control cells: no value of '{rules.keys.perturbation}' is '{rules.keys.control}'.")
    if not covariates:
        return
    controls = is_control.groupby([obs[key].astype(str) for key in covariates]).sum()
    poor = controls[controls < rules.min_controls]
    if len(poor):
        states = [name if isinstance(name, tuple) else (name,) for name in poor.index]
        raise PerturbenchError(
            f"no control cells in {len(poor)} of {len(controls)} states: {listing(map(state_name, states))}. Every "
            "state needs controls: add them, drop the state, or check the control value."
            if not poor.any()
            else f"under {rules.min_controls} control cells (data.min_controls) in {len(poor)} of {len(controls)} "
            f"states: {listing(f'{state_name(s)} {n}' for s, n in zip(states, poor, strict=True))}."
        )


class Curated(BaseModel):
    """Cells in the standard form; each field is a part of them, with the rules that it has to fulfil."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)

    cell_names: Annotated[pd.Index, _unique("cell")]
    gene_names: Annotated[pd.Index, _unique("gene")]
    counts: Annotated[sp.csr_matrix, _check(_hold_counts)]
    values: Annotated[pd.DataFrame, _check(_have_no_gaps)]
    categories: Annotated[pd.DataFrame, _check(_are_categories)]
    conditions: Annotated[pd.Series, _check(_are_names)]
    controls: Annotated[pd.DataFrame, _check(_have_controls)]


def check_curated(adata: ad.AnnData, keys: Keys, min_controls: int = 1) -> None:
    """Raise unless cells are in the standard form.

    Parameters
    ----------
    adata
        Counts ``(n_cells, n_genes)`` as CSR; the columns of ``keys`` are categories of ``obs``.
    keys
        The columns after curation.
    min_controls
        Control cells that every state has at least.

    Raises
    ------
    PerturbenchError
        With every rule that is broken, by name and count.
    """
    columns = [keys.perturbation, *keys.covariates]
    if absent := [name for name in columns if name not in adata.obs]:
        raise PerturbenchError(
            f"columns {listing(absent)} are not in obs; columns are: {listing(adata.obs.columns, 30)}."
        )
    obs = adata.obs[columns]
    try:
        Curated.model_validate(
            {
                "cell_names": adata.obs_names,
                "gene_names": adata.var_names,
                "counts": adata.X,
                "values": obs,
                "categories": obs,
                "conditions": obs[keys.perturbation],
                "controls": obs,
            },
            context={"rules": _Rules(keys, min_controls)},
        )
    except ValidationError as error:
        problems = list(_messages(error))
        lead = "" if len(problems) == 1 else f"the cells break {len(problems)} rules:\n- "
        raise PerturbenchError(lead + "\n- ".join(problems)) from None


def _messages(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_input=False):
        told = problem.get("ctx", {}).get("error")
        yield str(told) if told else f"{problem['loc'][0]}: {problem['msg']}"


def is_broken(name: str, keys: Keys) -> bool:
    """Say whether splitting at the delimiter leaves an empty part or tears a bracket apart."""
    parts = str(name).split(keys.delimiter) if keys.delimiter else [name]
    return len(parts) > 1 and any(
        not part.strip() or any(part.count(left) != part.count(right) for left, right in _BRACKETS.items())
        for part in parts
    )
