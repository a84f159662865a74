"""The results that the paper published, beside those of a leaderboard."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import pandas as pd
import yaml


@cache
def published_results() -> dict[str, Any]:
    """Return what ``published.yml`` has: ``source``, and ``results`` by task, model and metric, each mean and sd."""
    return yaml.safe_load(files("perturbench.analysis.report").joinpath("published.yml").read_text(encoding="utf-8"))


def beside_published(board: pd.DataFrame, task: str) -> pd.DataFrame:
    """Set a leaderboard's values beside the published ones.

    Parameters
    ----------
    board
        See :func:`perturbench.analysis.leaderboard.leaderboard`.
    task
        Its task.

    Returns
    -------
    One row per model and metric of the leaderboard that the paper has for the task: ``model``, ``metric``, ``here`` and
    ``published`` (mean, ± sd over seeds where there are several, as text) and ``difference``, here minus published.
    """
    known = published_results()["results"].get(task, {})
    rows = [
        {
            "model": row["model"],
            "metric": metric,
            "here": _text(row[metric], row[f"{metric}_sd"]),
            "published": _text(mean, sd),
            "difference": row[metric] - mean,
        }
        for row in board.to_dict("records")
        for metric, (mean, sd) in known.get(row["model"], {}).items()
        if metric in board.columns
    ]
    return pd.DataFrame(rows, columns=["model", "metric", "here", "published", "difference"])


def _text(mean: float, sd: float | None) -> str:
    return f"{mean:.4g}" if sd is None or pd.isna(sd) else f"{mean:.4g} ± {sd:.2g}"
