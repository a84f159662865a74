"""Describe the results of paired tests in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perturbench.errors import listing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perturbench.analysis.inference.best_model import BestModel


def headline(better: dict[str, list[str]], n_models: int, baseline: str) -> str:
    """Say in a sentence how many models are better than the baseline; nothing if no test was made."""
    if not better:
        return ""
    winners = set().union(*better.values())
    if not winners:
        return (
            f"No model beats the baseline: none is significantly better than {baseline} on any metric (paired tests)."
        )
    unbeaten = [name for name, models in better.items() if not models]
    rest = f" On {listing(unbeaten, 20)}, no model beats it." if unbeaten else ""
    return f"{len(winners)} of {n_models} models beat the baseline {baseline} on at least one metric.{rest}"


def verdicts(metrics: Sequence[str], best: dict[str, BestModel], better: dict[str, list[str]]) -> list[dict[str, str]]:
    """Return a row of text for each metric: which model is best, and which models beat the baseline."""
    return [
        {
            "metric": name,
            "best": _describe(best[name]) if name in best else "not tested",
            "better than the baseline": "not tested" if name not in better else listing(better[name], 4) or "none",
        }
        for name in metrics
    ]


def _describe(best: BestModel) -> str:
    if not best.contenders:
        return best.model
    others = best.contenders[0] if len(best.contenders) == 1 else f"one of {len(best.contenders)} others"
    return f"not certain: {best.model} has the best mean, but {others} may be better"
