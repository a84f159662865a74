"""The metrics that ``evaluation.metrics`` in the parameters names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perturbench.errors import PerturbenchError

if TYPE_CHECKING:
    from perturbench.analysis.metrics.registry import Metric
    from perturbench.config.sections import EvaluationConfig


def configured_metrics(evaluation: EvaluationConfig) -> list[Metric]:
    """Return the metrics of ``evaluation.metrics``, after importing the user's modules that register more.

    Raises
    ------
    PerturbenchError
        If a module cannot be imported or a metric is unknown.
    """
    from importlib import import_module

    from perturbench.analysis.metrics.registry import resolve_metrics

    for plugin in evaluation.plugins:
        try:
            import_module(plugin)
        except ImportError as error:
            raise PerturbenchError(f"evaluation.plugins: module '{plugin}' cannot be imported: {error}.") from error
    return resolve_metrics(evaluation.metrics)
