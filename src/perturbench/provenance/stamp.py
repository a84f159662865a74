"""The stamp of a file: the record of what made it, and how two stamps differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from perturbench import __version__
from perturbench.errors import without_secrets
from perturbench.provenance.fingerprints import fingerprint_parameters, jsonable

#: Key under which a stamp is stored in ``uns`` of an h5ad, in a checkpoint or in ``attrs`` of a table.
KEY = "perturbench"
#: Longer names, for messages, of sections of settings whose short name would be ambiguous.
_LABELS = {"prediction": "prediction settings", "evaluation": "evaluation settings", "data": "data settings"}
_LONGEST = 40
_NOT_SET = object()


@dataclass(frozen=True)
class Stamp:
    """The record of what made a file.

    Attributes
    ----------
    version
        Version of this package.
    task, model, seed
        The task, model and seed that the file belongs to; ``None`` where it belongs to none.
    inputs
        Fingerprints of the data that the file was made from, by name, for example ``cells`` and ``split``.
    settings
        Parameters that affect the file, by section: ``{"trainer": {"max_epochs": 500}, "metrics": ["rmse_average"]}``.
    code
        Fingerprints of the source code that made the file, by name, for example ``model`` and ``metrics``.
    command
        The command that made the file, for readers. Stamps that differ only in the command are equal.

    Examples
    --------
    >>> old = Stamp.make("demo", settings={"hyperparameters": {"lr": 0.003}})
    >>> Stamp.make("demo", settings={"hyperparameters": {"lr": 0.001}}).differences(old)
    ['hyperparameters: lr (0.001, was 0.003)']
    """

    version: str
    task: str | None = None
    model: str | None = None
    seed: int | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    command: str = field(default="", compare=False)

    @classmethod
    def make(
        cls,
        task: str | None = None,
        model: str | None = None,
        seed: int | None = None,
        *,
        inputs: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
        code: Mapping[str, str] | None = None,
        command: str = "",
    ) -> Stamp:
        """Return a new stamp with the version of this package."""
        return cls(
            __version__, task, model, seed, dict(inputs or {}), _plain(settings or {}), dict(code or {}), command
        )

    @classmethod
    def read(cls, container: Mapping[Any, Any]) -> Stamp | None:
        """Return the stamp in a mapping (``uns``, ``attrs``, a checkpoint), or ``None`` if it has none."""
        text = container.get(KEY)
        try:
            return cls(**json.loads(text)) if isinstance(text, str) else None
        except (ValueError, TypeError):
            return None

    def text(self) -> str:
        """Return the stamp as JSON, to be stored under :data:`KEY`."""
        return json.dumps(asdict(self))

    def fingerprint(self) -> str:
        """Return a fingerprint of the stamp without its command."""
        return fingerprint_parameters({name: value for name, value in asdict(self).items() if name != "command"})

    def extend(
        self,
        *,
        inputs: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
        code: Mapping[str, str] | None = None,
        command: str = "",
    ) -> Stamp:
        """Return the stamp of a file that a later step makes from this one: this stamp plus that step's entries."""
        return replace(
            self,
            inputs={**self.inputs, **(inputs or {})},
            settings={**self.settings, **_plain(settings or {})},
            code={**self.code, **(code or {})},
            command=command or self.command,
        )

    def without(self, name: str) -> Stamp:
        """Return the stamp without the settings and the code of this name, for example ``prediction``."""
        settings, code = ({key: old[key] for key in old if key != name} for old in (self.settings, self.code))
        return replace(self, settings=settings, code=code)

    def differences(self, before: Stamp) -> list[str]:
        """Describe what differs from an earlier stamp; the list is empty if a file with that stamp is up to date."""
        names = ("version", "task", "model", "seed")
        whole = [(name, getattr(self, name), getattr(before, name)) for name in names]
        return [
            *_changed_names(self.inputs, before.inputs),
            *_changed_settings(self.settings, before.settings),
            *(f"code of the {name}" for name in _changed_names(self.code, before.code)),
            *(f"{name} ({_shown(now)}, was {_shown(old)})" for name, now, old in whole if now != old),
        ]

    def conflicts(self, other: Stamp) -> list[str]:
        """Describe the inputs and settings that differ, among those that both stamps have.

        Entries that only one stamp has are ignored, for example because the prediction was made elsewhere.
        """
        inputs = self.inputs.keys() & other.inputs.keys()
        return [
            *_changed_names(*({name: stamp.inputs[name] for name in inputs} for stamp in (self, other))),
            *_changed_settings(*_common(self.settings, other.settings)),
        ]


def _common(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return two mappings restricted to their common keys, at every level."""
    first, second = {}, {}
    for name in one.keys() & other.keys():
        values = (one[name], other[name])
        if all(isinstance(value, Mapping) for value in values):
            values = _common(*values)
        first[name], second[name] = values
    return first, second


def _changed_names(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    return [name for name in sorted({*now, *before}) if now.get(name, _NOT_SET) != before.get(name, _NOT_SET)]


def _changed_settings(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    return [_in_words(name, now.get(name), before.get(name)) for name in _changed_names(now, before)]


def _in_words(section: str, now: Any, before: Any) -> str:
    """Describe which settings of a section changed, with their values if these are short."""
    label = _LABELS.get(section, section)
    if isinstance(now, list) and isinstance(before, list):
        parts = [("added", [x for x in now if x not in before]), ("removed", [x for x in before if x not in now])]
        words = [f"{what} {', '.join(map(str, items))}" for what, items in parts if items]
        return f"{label} ({'; '.join(words)})" if words else f"{label} (another order)"
    now, before = now or {}, before or {}
    if not (isinstance(now, Mapping) and isinstance(before, Mapping)):
        return label
    changed = [(name, now.get(name, _NOT_SET), before.get(name, _NOT_SET)) for name in _changed_names(now, before)]
    return f"{label}: {', '.join(_change(*values) for values in changed)}"


def _change(name: str, now: Any, before: Any) -> str:
    shown = [_shown(value) for value in (now, before)]
    return f"{name} ({shown[0]}, was {shown[1]})" if all(len(text) <= _LONGEST for text in shown) else name


def _shown(value: Any) -> str:
    return "not set" if value is _NOT_SET else str(value)


def _plain(value: Any) -> Any:
    """Return a value as JSON gives it back, so that a stored stamp equals a new one, and without secrets."""
    return _masked(json.loads(json.dumps(value, default=jsonable)))


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _masked(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return without_secrets(value) if isinstance(value, str) else value
