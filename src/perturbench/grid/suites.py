"""Named grids from ``conf/base/suites.yml``, and the command-line options that override them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, NonNegativeInt

from perturbench.errors import require_choice
from perturbench.parameters import Parameters

if TYPE_CHECKING:
    from collections.abc import Mapping


class Suite(Parameters):
    """The tasks, models and seeds of a grid, and the parameters of all its runs, written as in ``--params``."""

    tasks: tuple[str, ...] = Field(("demo",), min_length=1)
    models: tuple[str, ...] = Field((), min_length=1, validate_default=True)
    seeds: tuple[NonNegativeInt, ...] = Field((0,), min_length=1)
    params: str = ""


def choose(suites: Mapping[str, Any], name: str | None, params: str, **given: list[Any]) -> Suite:
    """Return a suite with the options of the command line.

    Tasks, models and seeds from the command line replace those of the suite; parameters are added.

    Raises
    ------
    PerturbenchError
        If there is no suite of this name.
    """
    if name is not None:
        require_choice("suite", name, suites)
    suite = dict(suites[name]) if name is not None else {}
    both = ",".join(text for text in (suite.get("params", ""), params) if text)
    return Suite(**{**suite, **{what: values for what, values in given.items() if values}, "params": both})
