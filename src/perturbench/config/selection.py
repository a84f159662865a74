"""The parameters of one run, selected by its task and model from the layers of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig, OmegaConf

from perturbench.errors import PerturbenchError, listing, require_choice, require_name

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Sections that a task's or a model's YAML may override.
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
#: Parameters that come from the chosen model, and that an environment or --params may override.
MODEL_PARAMETERS = ("hparams", "search_space")
HYPERPARAMETERS = ("defaults", "published", "tuned")
#: Sections that published hyperparameters may bring along.
PUBLISHED_SECTIONS = ("trainer",)
#: Mappings of named entries; a run selects one entry of each.
_ENTRIES = ("tasks", "models", "published")
_TASK_KEYS = {"extends", "title", *SECTIONS}
_MODEL_KEYS = {"extends", "target", "data", "defaults", "search_space", "trainer"}


class NotPublishedError(PerturbenchError):
    """There are no published hyperparameters for the model and task."""


def select_parameters(base: DictConfig, env: DictConfig, runtime: DictConfig) -> DictConfig:
    """Return the parameters of one run.

    Parameters
    ----------
    base
        Unresolved parameters of ``conf/base``.
    env
        Unresolved parameters of ``conf/local``, overridden by those of the environment.
    runtime
        Parameters of ``--params``.

    Returns
    -------
    Unresolved sections, and ``model_target``, ``hparams`` and ``search_space`` of the chosen model. Later layers
    override earlier ones: base, the task, what belongs to the published form of the data, the model, what was published
    with its hyperparameters, the environment, ``--params``.

    Raises
    ------
    PerturbenchError
        On an unknown task, model, section, hyperparameter or top-level name; the message lists the known ones.
    """
    if unknown := sorted(set(env) - set(base) - set(MODEL_PARAMETERS)):
        raise PerturbenchError(
            f"unknown parameters in conf/local or the environment: {listing(unknown)}; known: {listing(base, 50)}."
        )
    chosen = _top_level(base, env, runtime)
    for kind in ("task", "model"):
        require_name(kind, chosen[kind])
    task = _with_parent("task", chosen.task, _entries("tasks", base, env), _TASK_KEYS)
    model = _with_parent("model", chosen.model, _entries("models", base, env), _MODEL_KEYS)
    require_choice("value of 'hyperparameters'", chosen.hyperparameters, HYPERPARAMETERS)
    layers = [base, task, model, env, runtime]
    chosen["data"] = _merge_section("data", layers)
    published: Any = {}
    if chosen.hyperparameters == "published":
        published = _published_entry(chosen, _entries("published", base, env).get(chosen.model) or {})
    layers = [base, task, _published_form(chosen.data), model, published, env, runtime]
    for section in SECTIONS:
        chosen[section] = _merge_section(section, layers)
    chosen["title"] = task.get("title", chosen.task)
    chosen["model_target"] = model.target
    space = OmegaConf.merge(*(layer.get("search_space") or {} for layer in (model, env, runtime)))
    chosen["search_space"] = {name: entry for name, entry in space.items() if entry is not None}
    published = {name: value for name, value in published.items() if name not in PUBLISHED_SECTIONS}
    overrides = [layer.get("hparams") or {} for layer in (env, runtime)]
    chosen["hparams"] = _hyperparameters(chosen, model.get("defaults") or {}, published, overrides)
    return chosen


def require_names(files: Mapping[Path, DictConfig]) -> None:
    """Raise unless files can be named after all tasks and models in the parameters, by the path of their file."""
    for path, config in files.items():
        for kind in _ENTRIES:
            for name in config.get(kind) or ():
                require_name(f"the name in section '{kind}',", name, f" of '{path}'")


def _merge_section(section: str, layers: list[Any]) -> DictConfig:
    return OmegaConf.merge(*(layer[section] for layer in layers if section in layer))


def _published_form(data: DictConfig) -> dict[str, Any]:
    """Return the sections that belong to the published form of the data that is read: the split that goes with it."""
    if data.source.get("path") is not None:
        return {}
    form = (data.source.get("published") or {}).get(data.source.get("kind")) or {}
    return {"splitter": form["splitter"]} if "splitter" in form else {}


def _top_level(base: DictConfig, env: DictConfig, runtime: DictConfig) -> DictConfig:
    """Return the parameters before the task and the model override them, without the named entries."""
    layers = [OmegaConf.masked_copy(layer, [key for key in layer if key not in _ENTRIES]) for layer in (base, env)]
    merged = OmegaConf.merge(*layers)
    known = [*merged, *(name for name in MODEL_PARAMETERS if name not in merged)]
    if unknown := sorted(set(runtime) - set(known)):
        raise PerturbenchError(f"unknown --params: {listing(unknown)}; known: {listing(known, 50)}.")
    chosen = OmegaConf.merge(merged, {key: value for key, value in runtime.items() if key not in SECTIONS})
    if not isinstance(chosen.seed, int) or isinstance(chosen.seed, bool) or chosen.seed < 0:
        raise PerturbenchError(f"seed is '{chosen.seed}'; it must be a whole number of at least 0.")
    return chosen


def _entries(kind: str, base: DictConfig, env: DictConfig) -> DictConfig:
    """Return the entries of both layers; merge only if both have some, because merging copies all of them slowly."""
    return OmegaConf.merge(base.get(kind, {}), env[kind]) if kind in env else base.get(kind, {})


def _with_parent(kind: str, name: str, entries: DictConfig, allowed: set[str], children: tuple = ()) -> DictConfig:
    """Return the entry of a task or model, merged over the entry that it ``extends``."""
    if name in children:
        raise PerturbenchError(f"{kind} '{name}' extends itself: {' -> '.join((*children, name))}; break the circle.")
    require_choice(kind if not children else f"{kind} that '{children[-1]}' extends", name, entries)
    entry = entries[name]
    if unknown := sorted(set(entry) - allowed):
        raise PerturbenchError(f"{kind} '{name}' has unknown keys: {listing(unknown)}; known: {listing(allowed)}.")
    if "extends" not in entry:
        return entry
    return OmegaConf.merge(_with_parent(kind, entry["extends"], entries, allowed, (*children, name)), entry)


def _hyperparameters(chosen: DictConfig, defaults: Any, published: Any, overrides: list[Any]) -> DictConfig:
    """Return a model's defaults, overridden by published or tuned values, and then by the environment and --params."""
    layers = [defaults, published]
    if chosen.hyperparameters == "tuned":
        layers.append(_tuned_values(chosen))
    merged = OmegaConf.merge(*layers, *overrides)
    if unknown := sorted(set(merged) - set(defaults)):
        raise PerturbenchError(
            f"unknown hyperparameters of '{chosen.model}': {listing(unknown)}; known: {listing(defaults, 50)}."
        )
    for name, default in defaults.items():
        _require_type(f"hparams.{name}", merged[name], default)
    return merged


def _published_entry(chosen: DictConfig, published: Any) -> Any:
    """Return what was published for the task or, if that is nothing, for its data set."""
    name = next((name for name in (chosen.task, chosen.data.dataset) if name in published), None)
    if name is None:
        raise NotPublishedError(
            f"no published hyperparameters of '{chosen.model}' for task '{chosen.task}'; they exist for: "
            f"{listing(published)}. Use hyperparameters:defaults."
        )
    return published[name]


def _tuned_values(chosen: DictConfig) -> Any:
    """Return the values that a search found for the model and task."""
    path = Path(chosen.tuned_path)
    if not path.is_file():
        raise PerturbenchError(
            f"no tuned hyperparameters of '{chosen.model}' for task '{chosen.task}': '{path}' does not exist. "
            f"Search for them with: kedro run --pipeline=hpo --params=task:{chosen.task},model:{chosen.model}"
        )
    return yaml.safe_load(path.read_text())["hparams"]


def _require_type(name: str, value: Any, default: Any) -> None:
    """Raise unless a value has the type of the default; a number may replace ``null``, and ``null`` a number."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = {
        bool: isinstance(value, bool),
        int: number and float(value).is_integer(),
        float: number or value is None,
        type(None): number or value is None,
    }.get(type(default), True)
    if not fits:
        kind = "number" if default is None else type(default).__name__
        raise PerturbenchError(f"{name} is '{value}'; it must be of type {kind}, like its default {default}.")
