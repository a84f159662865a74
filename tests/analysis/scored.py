"""Made-up scores for tests of what is shown of them."""

import pandas as pd

from perturbench.analysis.leaderboard import leaderboard
from perturbench.analysis.metrics.registry import resolve_metrics

METRICS = resolve_metrics(["rmse_average", "cosine_logfc"])
METRIC_NAMES = [metric.name for metric in METRICS]


def make_scores(values, states=("s1", "s2"), seeds=(0,)):
    """Return scores of {model: (rmse, cosine)}: perturbations differ, and models by a constant."""
    rows = [
        (model, seed, metric.name, f"P{i}", state, value + 0.01 * i + 0.001 * ((i + n) % 3) + 0.0001 * seed)
        for n, (model, means) in enumerate(values.items())
        for seed in seeds
        for metric, value in zip(METRICS, means, strict=True)
        for state in states
        for i in range(10)
    ]
    return pd.DataFrame(rows, columns=["model", "seed", "metric", "perturbation", "cell_type", "value"])


def make_board(scores, anchors=None):
    return leaderboard(scores, METRICS, anchors)


def titles_of(figure):
    """Return the titles of a figure's panels."""
    return [annotation.text for annotation in figure.layout.annotations]
