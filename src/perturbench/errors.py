"""The exception for mistakes of the user, and helpers for its messages."""

import re
from collections.abc import Iterable

_MASK = "***"
#: Passwords before the @ of an address: not a port, which is followed by a path or by nothing.
_PASSWORD = re.compile(r"(://[^\s/?#:@]*):(?!\d+(?:[/?#\s'\"]|$))\S*@")
#: Access tokens in place of a user name; databases have plain user names there.
_TOKEN = re.compile(r"(\bhttps?://)[^\s/?#:@]+@", re.IGNORECASE)
_NAMES = r"[\w.%-]*(?:password|passwd|pwd|token|secret|key|signature|\bsig|credential)[\w.%-]*"
_QUERY = re.compile(rf"([?&;]{_NAMES}=)[^&;#\s'\"]*", re.IGNORECASE)


class PerturbenchError(ValueError):
    """Invalid input. The message names the thing, the value found, the values allowed and the fix, without secrets."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(without_secrets(arg) if isinstance(arg, str) else arg for arg in args))


def without_secrets(text: str) -> str:
    """Replace passwords and access tokens in the addresses of a text by ``***``.

    Examples
    --------
    >>> without_secrets("postgresql://me:secret@host/db?sslpassword=secret&sslmode=require")
    'postgresql://me:***@host/db?sslpassword=***&sslmode=require'
    """
    if "://" not in text and "?" not in text:
        return text
    text = _PASSWORD.sub(rf"\1:{_MASK}@", text)
    text = _TOKEN.sub(rf"\1{_MASK}@", text)
    return _QUERY.sub(rf"\1{_MASK}", text)


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


def require_name(what: str, name: object, where: str = "") -> None:
    """Raise unless ``name`` can be part of a file name, so that no name leads out of the project's folders.

    Raises
    ------
    PerturbenchError
        If it is empty, has other characters than letters, digits, ``_``, ``.`` and ``-``, starts with ``.`` or ``-``,
        or has two dots in a row.
    """
    if not re.fullmatch(r"\w[\w.-]*", str(name)) or ".." in str(name):
        raise PerturbenchError(
            f"{what} '{name}'{where} cannot be used, because files are named after it; use letters, digits, '_', '.' "
            "and '-', begin with a letter, a digit or '_', and do not write two dots in a row."
        )
