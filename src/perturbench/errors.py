"""The one exception that user mistakes raise, and how its messages are worded."""

from collections.abc import Iterable


class PerturbenchError(ValueError):
    """Input that cannot be used: the message names the thing, the value, what is allowed and the fix."""


def listing(names: Iterable[object], limit: int = 10) -> str:
    """Return names joined by commas, the first ``limit`` of them and how many are left."""
    names = [str(name) for name in names]
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(names[:limit]) or "none") + rest


def require_choice(what: str, value: object, choices: Iterable[object]) -> None:
    """Raise unless ``value`` is one of ``choices``, naming them.

    Raises
    ------
    PerturbenchError
        If ``value`` is not among ``choices``.
    """
    choices = list(choices)
    if value not in choices:
        raise PerturbenchError(f"unknown {what} '{value}'; choose one of: {listing(sorted(map(str, choices)), 50)}")
