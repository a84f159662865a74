"""The command line that repeats a run."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from perturbench.errors import without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omegaconf import DictConfig


def command_of(parameters: DictConfig, runtime: dict[str, Any], env: str | None) -> str:
    """Return the command line of a run with these parameters.

    ``--params`` cannot hold a list or a value with a comma; a comment below the command says how to set these. Secrets
    are masked, because the command is stored in files and shown in reports.
    """
    chosen = {name: parameters[name] for name in ("task", "model", "seed")}
    given = dict(_flatten({**chosen, **runtime}))
    plain = {
        name: value for name, value in given.items() if not isinstance(value, (list, dict)) and "," not in str(value)
    }
    params = f"--params={','.join(f'{name}:{_spelled(value)}' for name, value in plain.items())}"
    command = shlex.join(["kedro", "run", *([f"--env={env}"] if env else []), params])
    others = {name: value for name, value in given.items() if name not in plain}
    comments = (f"\n# with {name}: {json.dumps(value)} in conf/local" for name, value in others.items())
    return without_secrets("".join([command, *comments]))


def _flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _spelled(value: Any) -> str:
    """Return a value as Kedro's command line reads it."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
