"""Configuration loader: layers first, resolves afterwards, and lets one task and one model choose the rest."""

from __future__ import annotations

import json
import shlex
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from kedro.config import OmegaConfigLoader
from omegaconf import DictConfig, OmegaConf

from perturbench.errors import PerturbenchError, listing, require_choice

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Sections that a task's or a model's YAML may overlay.
SECTIONS = (
    "data",
    "preprocessing",
    "embedding",
    "splitter",
    "trainer",
    "prediction",
    "queries",
    "evaluation",
    "reporting",
    "hpo",
)
#: What the chosen model's YAML gives, and an environment or --params may change.
OF_THE_MODEL = ("hparams", "search_space")
_TASK_KEYS = {"extends", "title", *SECTIONS}
_MODEL_KEYS = {"extends", "target", "data", "defaults", "published", "search_space", "trainer"}
HYPERPARAMETERS = ("defaults", "published", "tuned")


class NotPublishedError(PerturbenchError):
    """Published hyperparameters were asked for, and there are none for the model and task."""


class LayeredConfigLoader(OmegaConfigLoader):
    """Merge parameters in one order, whatever sets them, then resolve ``${...}``.

    Later wins: ``conf/base/parameters.yml``, the chosen task, the chosen model, the environment, ``--params``. The
    stock loader resolves base before it knows the environment, so a base value could not follow an environment's task.

    ``${params:task}`` gives the catalog and mlflow.yml the value that nodes see; ``${root:path}`` is a path in the
    project.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._base = self._env = None
        self._parameter_files: tuple[Any, ...] | None = None
        OmegaConf.register_resolver("params", self._select_param, replace=True)
        OmegaConf.register_resolver("root", self._project_path, replace=True)
        OmegaConf.register_resolver("stem", lambda path: Path(path).stem, replace=True)

    def _read_raw_config(self, key: str) -> tuple[Any, ...]:
        """Read the parameters' files once per loader, as the catalog and the run both need them; private in Kedro."""
        if key != "parameters":
            return super()._read_raw_config(key)
        if self._parameter_files is None:
            self._parameter_files = super()._read_raw_config(key)
        return self._parameter_files

    def _resolve_from_raw_config(self, key: str, base_configs: Any, env_configs: Any, *rest: Any) -> dict[str, Any]:
        """Intercept parameters only; private in Kedro 1.7, which is why Kedro is pinned and this is tested."""
        if key != "parameters":
            if key != "globals":
                _ = self._params  # a mistake in the parameters is told here, not wrapped by a resolver that needs them
            return super()._resolve_from_raw_config(key, base_configs, env_configs, *rest)
        if self._base is None:
            self._base, self._env = _merge_files(base_configs), _merge_files(env_configs)
        return self._selected(self.runtime_params or {})

    def of_every_task(self) -> dict[str, dict[str, Any]]:
        """Return the parameters of each task, as a run of it would get them."""
        self["parameters"]
        tasks = {**self._base.get("tasks", {}), **self._env.get("tasks", {})}
        return {task: self.of_a_run(task=task) for task in sorted(tasks)}

    def of_a_run(self, **chosen: Any) -> dict[str, Any]:
        """Return the parameters that a run would get that chooses a task, model or seed in addition."""
        if self._base is None:
            self["parameters"]
        return self._selected({**(self.runtime_params or {}), **chosen})

    def _selected(self, runtime: dict[str, Any]) -> dict[str, Any]:
        merged = select_parameters(self._base, self._env, OmegaConf.create(runtime))
        merged["command"] = _command(merged, runtime, self.env)
        return OmegaConf.to_container(merged, resolve=True)  # type: ignore[return-value]

    @cached_property
    def _params(self) -> DictConfig:
        return OmegaConf.create(self["parameters"])

    def _select_param(self, key: str) -> Any:
        return OmegaConf.select(self._params, key, throw_on_missing=True)

    def _project_path(self, path: str = "") -> str:
        return (Path(self.conf_source).resolve().parent / path).as_posix()


def select_parameters(base: DictConfig, env: DictConfig, runtime: DictConfig) -> DictConfig:
    """Return the parameters of one run.

    Parameters
    ----------
    base, env, runtime
        Unresolved parameters of ``conf/base``, of the environment and of ``--params``. Together they hold ``tasks``
        and ``models``, of which one each is chosen.

    Returns
    -------
    The sections, plus ``model_target``, ``hparams`` and ``search_space`` of the chosen model; unresolved.

    Raises
    ------
    PerturbenchError
        On an unknown task, model, section, hyperparameter or top-level name, with the choices.
    """
    if strange := sorted(set(env) - set(base) - set(OF_THE_MODEL)):
        raise PerturbenchError(
            f"unknown parameters in the environment's files: {listing(strange)}; known: {listing(base, 50)}."
        )
    catalogue = OmegaConf.merge(*(_without_entries(layer) for layer in (base, env)))
    tasks, models = _entries("tasks", base, env), _entries("models", base, env)
    known = [*catalogue, *OF_THE_MODEL]
    if unknown := sorted(set(runtime) - set(known)):
        raise PerturbenchError(f"unknown --params: {listing(unknown)}; known: {listing(known, 50)}.")
    chosen = OmegaConf.merge(catalogue, {key: value for key, value in runtime.items() if key not in SECTIONS})
    if not isinstance(chosen.seed, int) or isinstance(chosen.seed, bool) or chosen.seed < 0:
        raise PerturbenchError(f"seed is '{chosen.seed}'; it must be a whole number of at least 0.")
    task = _with_parent("task", chosen.task, tasks, _TASK_KEYS)
    model = _with_parent("model", chosen.model, models, _MODEL_KEYS)
    for section in SECTIONS:
        layers = [layer[section] for layer in (base, task, model, env, runtime) if section in layer]
        chosen[section] = OmegaConf.merge(*layers)
    chosen["title"] = task.get("title", chosen.task)
    chosen["model_target"] = model.target
    space = OmegaConf.merge(*(layer.get("search_space") or {} for layer in (model, env, runtime)))
    chosen["search_space"] = {name: entry for name, entry in space.items() if entry is not None}
    chosen["hparams"] = _hyperparameters(chosen, model, env.get("hparams", {}), runtime.get("hparams", {}))
    return chosen


def _without_entries(layer: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(layer, [key for key in layer if key not in ("tasks", "models")])


def _entries(kind: str, base: DictConfig, env: DictConfig) -> DictConfig:
    """Return the entries of both layers; a merge copies all of them, which is slow, so only where there is one."""
    return OmegaConf.merge(base.get(kind, {}), env[kind]) if kind in env else base.get(kind, {})


def _with_parent(kind: str, name: str, entries: DictConfig, allowed: set[str], children: tuple = ()) -> DictConfig:
    """Return a task's or model's entry over that of the one it ``extends``; published values are its own alone."""
    if name in children:
        raise PerturbenchError(f"{kind} '{name}' extends itself: {' -> '.join((*children, name))}; end the circle.")
    require_choice(kind if not children else f"{kind} that '{children[-1]}' extends", name, entries)
    entry = entries[name]
    if strange := sorted(set(entry) - allowed):
        raise PerturbenchError(f"{kind} '{name}' has unknown keys: {listing(strange)}; known: {listing(allowed)}.")
    if "extends" not in entry:
        return entry
    parent = _with_parent(kind, entry["extends"], entries, allowed, (*children, name))
    return OmegaConf.merge(OmegaConf.masked_copy(parent, [key for key in parent if key != "published"]), entry)


def _hyperparameters(chosen: DictConfig, model: DictConfig, *overrides: Any) -> DictConfig:
    """Return the model's defaults, overlaid with the published or tuned values and with what was asked for."""
    require_choice("value of 'hyperparameters'", chosen.hyperparameters, HYPERPARAMETERS)
    defaults = OmegaConf.merge(model.get("defaults") or {})
    layers = [defaults]
    if chosen.hyperparameters == "published":
        published = model.get("published") or {}
        name = next((name for name in (chosen.task, chosen.data.dataset) if name in published), None)
        if name is None:
            raise NotPublishedError(
                f"no published hyperparameters of '{chosen.model}' for task '{chosen.task}'; there are some for: "
                f"{listing(published)}. Use hyperparameters:defaults."
            )
        layers.append(published[name])
    if chosen.hyperparameters == "tuned":
        path = Path(chosen.tuned_path)
        if not path.is_file():
            raise PerturbenchError(
                f"no tuned hyperparameters of '{chosen.model}' for task '{chosen.task}': '{path}' is not there. "
                f"Find some with: kedro run --pipeline=hpo --params=task:{chosen.task},model:{chosen.model}"
            )
        layers.append(OmegaConf.create(yaml.safe_load(path.read_text())["hparams"]))
    merged = OmegaConf.merge(*layers, *(override or {} for override in overrides))
    if unknown := sorted(set(merged) - set(defaults)):
        raise PerturbenchError(
            f"unknown hyperparameters of '{chosen.model}': {listing(unknown)}; known: {listing(defaults, 50)}."
        )
    for name, default in defaults.items():
        _require_type(f"hparams.{name}", merged[name], default)
    return merged


def _require_type(name: str, value: Any, default: Any) -> None:
    """Raise unless a value is of the kind of the default; a number may stand for ``null``, and ``null`` for it."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = {
        bool: isinstance(value, bool),
        int: number and float(value).is_integer(),
        float: number or value is None,
        type(None): number or value is None,
    }.get(type(default), True)
    if not fits:
        kind = "number" if default is None else type(default).__name__
        raise PerturbenchError(f"{name} is '{value}'; it must be of type {kind}, as its default {default}.")


def _command(chosen: DictConfig, runtime: dict[str, Any], env: str | None) -> str:
    """Return the command line of a run with these parameters; what does not fit into one is named below it."""
    given = dict(_flatten({"task": chosen.task, "model": chosen.model, "seed": chosen.seed, **runtime}))
    plain = {
        key: value for key, value in given.items() if not isinstance(value, (list, dict)) and "," not in str(value)
    }
    params = f"--params={','.join(f'{key}:{_spelled(value)}' for key, value in plain.items())}"
    command = shlex.join(["kedro", "run", *([f"--env={env}"] if env else []), params])
    others = {key: value for key, value in given.items() if key not in plain}
    return command + "".join(f"\n# with {key}: {json.dumps(value)} in conf/local" for key, value in others.items())


def _flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _spelled(value: Any) -> str:
    """Return a value as Kedro's command line reads it."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _merge_files(configs: dict[Any, DictConfig]) -> DictConfig:
    return OmegaConf.unsafe_merge({}, *(configs[path] for path in sorted(configs)))
