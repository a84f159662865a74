"""Kedro settings of the project."""

import os

from perturbench.config.loader import LayeredConfigLoader
from perturbench.hooks import InputHooks, ProjectHooks, SummaryHooks, TrackingHooks

CONFIG_LOADER_CLASS = LayeredConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "config_patterns": {"suites": ["suites*", "suites*/**"]},
}

# kedro-mlflow opens its store as soon as a session starts, before any configuration could switch it off.
TRACKING = os.environ.get("PERTURBENCH_TRACKING", "on") != "off"
HOOKS = (ProjectHooks(), InputHooks(), SummaryHooks(), *((TrackingHooks(),) if TRACKING else ()))
DISABLE_HOOKS_FOR_PLUGINS = () if TRACKING else ("kedro-mlflow", "kedro_mlflow")
