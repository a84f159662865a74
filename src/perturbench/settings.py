"""Kedro settings of the project."""

import os

from perturbench.config.loader import LayeredConfigLoader
from perturbench.hooks import InputHooks, ProjectHooks, SummaryHooks, TrackingHooks

CONFIG_LOADER_CLASS = LayeredConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "config_patterns": {"suites": ["suites*", "suites*/**"], "mlflow": ["mlflow*", "mlflow*/**"]},
}

# Tests and many machines at once run without an MLflow store.
TRACKING = os.environ.get("PERTURBENCH_TRACKING", "on") != "off"
HOOKS = (ProjectHooks(), InputHooks(), SummaryHooks(), *((TrackingHooks(),) if TRACKING else ()))
# The project tracks its runs itself. The plugin, where it is installed, would start a second run of each.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-mlflow", "kedro_mlflow")
