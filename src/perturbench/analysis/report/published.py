"""Compare a leaderboard with the results that the paper published."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import pandas as pd
import yaml


@cache
def published_results() -> dict[str, Any]:
    """Return ``source`` and ``results`` of ``published_results.yml``: mean and sd by task, model and metric."""
    return yaml.safe_load(
        files("perturbench.analysis.report").joinpath("published_results.yml").read_text(encoding="utf-8")
    )


def beside_published(board: pd.DataFrame, task: str) -> pd.DataFrame:
    """Return the means of a leaderboard beside the published ones.

    Parameters
    ----------
    board
        Leaderboard, see :func:`perturbench.analysis.leaderboard.leaderboard`.
    task
        Name of the task.

    Returns
    -------
    One row for each model and metric that both have: ``model``, ``metric``, ``here`` and ``published`` (mean, and ± sd
    over seeds if there are several, as text) and ``difference`` (here - published).
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
