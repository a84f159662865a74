"""Kedro settings of the project."""

import os

from perturbench.config.loader import LayeredConfigLoader
from perturbench.hooks import ImportHooks, InputHooks, ProjectHooks, ReadOnceHooks, SummaryHooks, TrackingHooks

CONFIG_LOADER_CLASS = LayeredConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "config_patterns": {"suites": ["suites*", "suites*/**"], "mlflow": ["mlflow*", "mlflow*/**"]},
}

# PERTURBENCH_TRACKING=off runs without an MLflow store, for tests and for many machines at the same time.
TRACKING = os.environ.get("PERTURBENCH_TRACKING", "on") != "off"
HOOKS = (
    ProjectHooks(),
    InputHooks(),
    ImportHooks(TRACKING),
    ReadOnceHooks(),
    SummaryHooks(),
    *((TrackingHooks(),) if TRACKING else ()),
)
# The project tracks its runs itself. The plugin, if it is installed, would record each of them a second time.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-mlflow", "kedro_mlflow")
