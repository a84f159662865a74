"""The verdicts of paired tests, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perturbench.errors import listing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perturbench.analysis.inference.best_model import Best


def headline(better: dict[str, list[str]], n_models: int, baseline: str) -> str:
    """Say in a sentence whether the models are worth their training."""
    if not better:
        return ""
    winners = set().union(*better.values())
    if not winners:
        return f"Nothing beats the baseline: on no metric is a model better than {baseline} by a paired test."
    lost = [name for name, models in better.items() if not models]
    rest = f" On {listing(lost, 20)} nothing beats the baseline." if lost else ""
    return f"{len(winners)} of {n_models} models beat the baseline {baseline} on at least one metric.{rest}"


def verdicts(metrics: Sequence[str], best: dict[str, Best], better: dict[str, list[str]]) -> list[dict[str, str]]:
    """Return what can be said of each metric, as text: which model is best, and which beat the baseline."""
    return [
        {
            "metric": name,
            "best": _of_best(best[name]) if name in best else "not tested",
            "better than the baseline": "not tested" if name not in better else listing(better[name], 4) or "none",
        }
        for name in metrics
    ]


def _of_best(best: Best) -> str:
    if not best.alike:
        return best.model
    others = best.alike[0] if len(best.alike) == 1 else f"one of {len(best.alike)} others"
    return f"none for certain: {best.model} has the best mean, {others} may be better"
