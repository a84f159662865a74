"""Named grids of ``conf/base/suites.yml``, and what the command line changes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, NonNegativeInt

from perturbench.errors import require_choice
from perturbench.parameters import Parameters

if TYPE_CHECKING:
    from collections.abc import Mapping


class Suite(Parameters):
    """Tasks, models and seeds that make a grid, and parameters of all its cells as ``--params`` takes them."""

    tasks: tuple[str, ...] = Field(("demo",), min_length=1)
    models: tuple[str, ...] = Field((), min_length=1, validate_default=True)
    seeds: tuple[NonNegativeInt, ...] = Field((0,), min_length=1)
    params: str = ""


def choose(suites: Mapping[str, Any], name: str | None, params: str, **given: list[Any]) -> Suite:
    """Return a suite, with those tasks, models or seeds that are given in place of its own, and more parameters.

    Raises
    ------
    PerturbenchError
        If there is no suite of the name.
    """
    if name is not None:
        require_choice("suite", name, suites)
    own = dict(suites[name]) if name is not None else {}
    both = ",".join(text for text in (own.get("params", ""), params) if text)
    return Suite(**{**own, **{what: values for what, values in given.items() if values}, "params": both})
