"""The exception for mistakes of the user, and helpers for its messages."""

from collections.abc import Iterable


class PerturbenchError(ValueError):
    """Invalid input. The message names the thing, the value found, the values allowed and the fix."""


def listing(names: Iterable[object], limit: int = 10) -> str:
    """Join names with commas; after ``limit`` names, only say how many more there are."""
    texts = [str(name) for name in names]
    remainder = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return (", ".join(texts[:limit]) or "none") + remainder


def require_choice(what: str, value: object, choices: Iterable[object]) -> None:
    """Raise unless ``value`` is one of ``choices``; the message lists the choices.

    Raises
    ------
    PerturbenchError
        If ``value`` is not among ``choices``.
    """
    choices = list(choices)
    if value not in choices:
        raise PerturbenchError(f"unknown {what} '{value}'; choose one of: {listing(sorted(map(str, choices)), 50)}")
