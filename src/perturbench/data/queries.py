"""Tables of queries: a template that lists possible queries, and the check of a table that a user filled in."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from perturbench.data.encoding import context_keys
from perturbench.data.groups import pair_name, state_name
from perturbench.errors import PerturbenchError, listing, require_choice

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from perturbench.data.encoding import Context
    from perturbench.data.groups import Groups, Keys, Pair, State

Template = Literal["all", "unobserved", "doubles"]
TEMPLATES: tuple[Template, ...] = ("all", "unobserved", "doubles")
SUFFIXES = (".csv", ".parquet")


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a table as text, so that day ``02`` stays ``02`` and a perturbation called ``NA`` stays a name.

    Parameters
    ----------
    path
        A ``.csv`` or ``.parquet`` file.

    Raises
    ------
    PerturbenchError
        If the file has another suffix, or cannot be read in the format of its suffix.
    """
    require_choice("suffix of a table", Path(path).suffix, SUFFIXES)
    try:
        if Path(path).suffix == ".parquet":
            return pd.read_parquet(path)
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError:
        raise
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (ValueError, OSError) as error:
        raise PerturbenchError(f"'{path}' cannot be read as a {Path(path).suffix} table: {error}") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise PerturbenchError(
            f"'{path}' has rows with more values than columns; put names that contain commas in quotes."
        )
    return table


def query_pairs(table: pd.DataFrame, context: Context, groups: Groups, rows: np.ndarray) -> list[Pair]:
    """Check a table of queries and return its (state, perturbation) pairs, in the order of its rows.

    Parameters
    ----------
    table
        One row per query, with the columns of the perturbation and of each covariate. ``B+A`` means ``A+B``.
    context
        Names of the model's training data.
    groups
        States and perturbations of all cells.
    rows
        Cells that predictions may start from, ``(n_rows,)``; their control cells are used.

    Raises
    ------
    PerturbenchError
        If columns or values are missing, the model was not trained on a single perturbation or covariate value, a
        state has no control cells, or a query is repeated. The message names every problem at once.
    """
    keys = context_keys(context)
    columns = [keys.perturbation, *keys.covariates]
    _require_columns(table, columns)
    text = table[columns].astype(str)
    pairs = [(tuple(state), keys.canonical(name)) for name, *state in text.itertuples(index=False, name=None)]
    problems = [
        *_unknown_perturbations(pairs, keys, context),
        *_unknown_states(pairs, context, states_with_controls(groups, rows)),
        *_repeated(pairs),
    ]
    if problems:
        raise PerturbenchError("the queries cannot be predicted: " + "; ".join(problems) + ".")
    return pairs


def make_template(groups: Groups, context: Context, rows: np.ndarray, which: Template = "all") -> pd.DataFrame:
    """Return a table of possible queries, in every state that has control cells.

    Parameters
    ----------
    groups
        States and perturbations of all cells.
    context
        Names of the training data; perturbations that are not in the training data are left out.
    rows
        Cells that predictions may start from, ``(n_rows,)``; their control cells are used.
    which
        ``all``: every perturbation of the data; ``unobserved``: perturbations of the data that were not observed in
        the state; ``doubles``: every unobserved combination of two single perturbations.

    Returns
    -------
    One row per (state, perturbation) pair, with the columns of the perturbation and of each covariate.

    Raises
    ------
    PerturbenchError
        If the table would be empty.
    """
    require_choice("template", which, TEMPLATES)
    keys, singles = groups.keys, context["perturbation_uniques"]
    if which == "doubles":
        joined = [] if keys.delimiter is None else map(keys.delimiter.join, combinations(singles, 2))
        conditions = [keys.canonical(name) for name in joined]
    else:
        seen = [name for name in groups.conditions if set(keys.singles(name)) <= set(singles)]
        conditions = sorted({*seen, *singles} - {str(keys.control)})
    states = [state for state in states_with_controls(groups, rows) if _is_known(state, context)]
    observed = set() if which == "all" else set(groups.pairs())
    pairs = [(state, name) for state in states for name in conditions if (state, name) not in observed]
    if not pairs:
        others = listing(name for name in TEMPLATES if name != which)
        raise PerturbenchError(
            f"the template '{which}' would be empty: of {len(conditions)} perturbations in {len(states)} states, "
            f"none is left to predict. Choose another template: {others}."
        )
    return pd.DataFrame([(name, *state) for state, name in pairs], columns=[keys.perturbation, *keys.covariates])


def states_with_controls(groups: Groups, rows: np.ndarray) -> list[State]:
    """Return the states that have control cells among ``rows``."""
    codes = groups.state_codes[rows[groups.is_control[rows]]]
    return [groups.states[code] for code in np.unique(codes)]


def _require_columns(table: pd.DataFrame, columns: Sequence[str]) -> None:
    problems = []
    if missing := [name for name in columns if name not in table.columns]:
        problems.append(f"columns are missing: {_all(missing)}")
    if unknown := [name for name in table.columns if name not in columns]:
        problems.append(f"columns are unknown to the model: {_all(unknown)}")
    if not problems and table.empty:
        problems.append("it has no rows")
    if not problems:
        empty = {name: table[name].isna() | (table[name].astype(str).str.strip() == "") for name in columns}
        problems = [
            f"column '{name}' is empty in rows {_all(np.flatnonzero(rows) + 1)} (1 is the row below the header)"
            for name, rows in empty.items()
            if rows.any()
        ]
    if problems:
        raise PerturbenchError(
            f"the table of queries cannot be used: {'; '.join(problems)}. It needs exactly the columns "
            f"{_all(columns)}, and has: {listing(table.columns, 30)}."
        )


def _unknown_perturbations(pairs: list[Pair], keys: Keys, context: Context) -> list[str]:
    known = context["perturbation_uniques"]
    unknown = sorted({single for _, name in pairs for single in keys.singles(name)} - set(known))
    if not unknown:
        return []
    return [f"unknown perturbations: {_all(unknown)} (the model was trained on {len(known)}: {listing(known)})"]


def _unknown_states(pairs: list[Pair], context: Context, with_controls: list[State]) -> list[str]:
    states, problems = list(dict.fromkeys(state for state, _ in pairs)), []
    for position, (key, known) in enumerate(context["covariate_uniques"].items()):
        if unknown := sorted({state[position] for state in states} - set(known)):
            problems.append(f"unknown values of covariate '{key}': {_all(unknown)} (the model knows: {listing(known)})")
    if without := [state for state in states if _is_known(state, context) and state not in with_controls]:
        problems.append(
            f"states without control cells, which predictions start from: {_all(map(state_name, without))} "
            f"(states with control cells: {listing(map(state_name, with_controls))})"
        )
    return problems


def _is_known(state: State, context: Context) -> bool:
    return all(value in known for value, known in zip(state, context["covariate_uniques"].values(), strict=True))


def _repeated(pairs: list[Pair]) -> list[str]:
    repeated = [pair_name(pair) for pair, count in Counter(pairs).items() if count > 1]
    return [f"queried more than once: {_all(repeated)}"] if repeated else []


def _all(names: Iterable[object]) -> str:
    """Join all names with commas; blank names are quoted, because they would be invisible otherwise."""
    shown = [str(name) if str(name).strip() else repr(str(name)) for name in names]
    return listing(shown, len(shown))
