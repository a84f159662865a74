"""Base class of typed parameters: creating them with a wrong name or value raises an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from perturbench.errors import PerturbenchError, listing


class Parameters(BaseModel):
    """Named values with types, ranges and defaults; frozen.

    A subclass lists its fields once, with their defaults. The library takes it as an argument, and the project checks
    a section of ``parameters.yml`` against it before any node runs. A field that is added to the subclass is therefore
    also a parameter of the project. A ``title`` in ``model_config`` names the source of the values in messages.

    Raises
    ------
    PerturbenchError
        On unknown names (the message lists the known ones), and on values of the wrong type or out of range.
    """

    # Inputs are hidden in pydantic's own message, which a traceback shows: they may contain a password.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            title = self.model_config.get("title")
            problems = "; ".join(_describe(problem) for problem in error.errors())
            raise PerturbenchError(f"{title}: {problems}" if title else problems) from error

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Make parameters from a mapping, with the constructor's messages; Kedro calls this method."""
        return cls(**obj) if isinstance(obj, Mapping) else super().model_validate(obj, **options)

    @classmethod
    def override(cls, settings: Self | None, changes: Mapping[str, Any]) -> Self:
        """Return ``settings``, or the defaults, with some fields changed and checked."""
        if settings is None:
            return cls(**changes)
        return type(settings)(**{**dict(settings), **changes}) if changes else settings

    @model_validator(mode="before")
    @classmethod
    def _known_names(cls, values: Any) -> Any:
        if isinstance(values, dict) and (unknown := sorted(set(values) - set(cls.model_fields))):
            raise PerturbenchError(
                f"unknown parameters: {listing(unknown)}; choose among: {listing(cls.model_fields, 50)}"
            )
        return values


def _describe(problem: Any) -> str:
    """Return one line about a problem that pydantic found: the field, its value and what is allowed."""
    name = ".".join(map(str, problem["loc"]))
    if raised := problem.get("ctx", {}).get("error"):
        return f"{name}: {raised}" if name else str(raised)
    if problem["type"] == "missing":
        return f"{name} is not set; it has no default"
    message = problem["msg"]
    return f"{name} is {problem['input']!r}: {message[0].lower()}{message[1:]}"
