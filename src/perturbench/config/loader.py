"""Kedro's configuration loader with two more layers: the parameters of the chosen task and model."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from kedro.config import MissingConfigException, OmegaConfigLoader
from omegaconf import DictConfig, OmegaConf

from perturbench.config.command_line import command_of
from perturbench.config.selection import require_names, select_parameters


class LayeredConfigLoader(OmegaConfigLoader):
    """Merge all layers of the parameters, then resolve ``${...}``.

    Later layers override earlier ones: ``conf/base/parameters.yml``, the chosen task, the chosen model, ``conf/local``,
    the environment of ``--env``, ``--params``. Kedro's own loader resolves base before it reads the environment, so a
    value in base could not depend on the environment's task. It also reads either ``conf/local`` or the environment, so
    a user's own tasks would be missing with ``--env=gpu``.

    Three resolvers work in every file of ``conf``: ``${params:task}`` is the value that nodes see, ``${root:path}`` is
    a path inside the project, and ``${stem:path}`` is the name of a file without folder and suffix.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._base = self._env = None
        self._parameter_files: tuple[Any, Any, str, str, set[Path]] | None = None
        OmegaConf.register_resolver("params", self._select_param, replace=True)
        OmegaConf.register_resolver("root", self._project_path, replace=True)
        OmegaConf.register_resolver("stem", lambda path: Path(path).stem, replace=True)

    def _read_raw_config(self, key: str) -> tuple[Any, Any, str, str, set[Path]]:
        """Read ``conf/local`` below the environment; private in Kedro 1.7, so Kedro is pinned and this is tested."""
        if key != "parameters":
            return self._read_layers(key)
        # The catalog, the hooks and the run all need the parameters; reading them is slow.
        self._parameter_files = self._parameter_files or self._read_layers(key)
        return self._parameter_files

    def _read_layers(self, key: str) -> tuple[Any, Any, str, str, set[Path]]:
        base, env, base_path, env_path, processed = super()._read_raw_config(key)
        local = self._read_local(key, processed)
        if key != "parameters":
            # Only parameters are merged across environments; in other files, a later entry replaces the earlier one.
            overridden = {name for config in env.values() for name in config}
            local = {path: _without(config, overridden) for path, config in local.items()}
        return base, {**_by_path(local), **_by_path(env)}, base_path, env_path, processed

    def _read_local(self, key: str, processed: set[Path]) -> dict[Path, DictConfig]:
        if (self.env or self.default_run_env) in (self.base_env, self.default_run_env):
            return {}
        folder = self._get_conf_env_path(self.default_run_env)
        try:
            return self._read_dir_configs(folder, self.config_patterns[key], key, processed, key == "credentials")
        except MissingConfigException:
            return {}

    def _resolve_from_raw_config(self, key: str, base_configs: Any, env_configs: Any, *rest: Any) -> dict[str, Any]:
        """Select the parameters of the run; private in Kedro 1.7, so Kedro is pinned and this is tested."""
        if key != "parameters":
            if key != "globals":
                _ = self._params  # report mistakes in the parameters here; a resolver would wrap the message
            return super()._resolve_from_raw_config(key, base_configs, env_configs, *rest)
        if self._base is None:
            require_names({**base_configs, **env_configs})
            self._base, self._env = _merge_files(_by_path(base_configs)), _merge_files(env_configs)
        return self._selected(self.runtime_params or {})

    def of_every_task(self) -> dict[str, dict[str, Any]]:
        """Return the parameters that a run of each task would get, by task."""
        self["parameters"]
        tasks = {**self._base.get("tasks", {}), **self._env.get("tasks", {})}
        return {task: self.of_a_run(task=task) for task in sorted(tasks)}

    def of_a_run(self, **choices: Any) -> dict[str, Any]:
        """Return the parameters of a run with further choices, for example ``model`` or ``seed``."""
        if self._base is None:
            self["parameters"]
        return self._selected({**(self.runtime_params or {}), **choices})

    def _selected(self, runtime: dict[str, Any]) -> dict[str, Any]:
        merged = select_parameters(self._base, self._env, OmegaConf.create(runtime))
        merged["command"] = command_of(merged, runtime, self.env)
        return OmegaConf.to_container(merged, resolve=True)  # type: ignore[return-value]

    @cached_property
    def _params(self) -> DictConfig:
        return OmegaConf.create(self["parameters"])

    def _select_param(self, key: str) -> Any:
        return OmegaConf.select(self._params, key, throw_on_missing=True)

    def _project_path(self, path: str = "") -> str:
        return (Path(self.conf_source).resolve().parent / path).as_posix()


def _by_path(configs: dict[Path, DictConfig]) -> dict[Path, DictConfig]:
    return {path: configs[path] for path in sorted(configs)}


def _merge_files(configs: dict[Path, DictConfig]) -> DictConfig:
    return OmegaConf.unsafe_merge({}, *configs.values())


def _without(config: DictConfig, names: set[str]) -> DictConfig:
    return OmegaConf.masked_copy(config, [name for name in config if name not in names])
