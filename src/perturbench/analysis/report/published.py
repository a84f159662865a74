"""Compare a leaderboard with the results that the paper published."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from perturbench.analysis.report.comparability import Origin, run_differences

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_COLUMNS = ["model", "metric", "table", "here", "published", "difference", "comparable"]


@cache
def published_results() -> dict[str, Any]:
    """Return the contents of ``published_results.yml``.

    ``source``; ``tables``, the paper's table by task and metric; ``results``, mean and sd by task, model and metric.
    """
    return yaml.safe_load(
        files("perturbench.analysis.report").joinpath("published_results.yml").read_text(encoding="utf-8")
    )


def results_of(task: str) -> dict[str, dict[str, tuple[float, float | None]]]:
    """Return the published results of a task by model and metric; empty if there are none.

    A task that takes cells and split in their published form may be called ``<task>_published``.
    """
    return published_results()["results"].get(task.removesuffix("_published"), {})


def beside_published(
    board: pd.DataFrame, task: str, origin: Origin | None = None, commands: Mapping[str, Sequence[str]] | None = None
) -> pd.DataFrame:
    """Return the means of a leaderboard beside the published ones.

    Parameters
    ----------
    board
        Leaderboard, see :func:`perturbench.analysis.leaderboard.leaderboard`.
    task
        Name of the task.
    origin
        Where the cells and the split come from.
    commands
        The command lines of the runs of each model.

    Returns
    -------
    One row for each model and metric that both have: ``model``, ``metric``, ``table`` (of the paper), ``here`` and
    ``published`` (mean, and ± sd over seeds if there are several, as text), ``difference`` (here - published) and
    ``comparable`` (yes, or no and why).
    """
    known, of_data = results_of(task), (origin or Origin()).differences()
    rows = []
    for row in board.to_dict("records"):
        differences = [*of_data, *run_differences((commands or {}).get(row["model"], [""]))]
        for metric, (mean, sd) in known.get(row["model"], {}).items():
            if metric not in board.columns:
                continue
            rows.append(
                {
                    "model": row["model"],
                    "metric": metric,
                    "table": table_of(task, metric),
                    "here": _text(row[metric], row[f"{metric}_sd"]),
                    "published": _text(mean, sd),
                    "difference": row[metric] - mean,
                    "comparable": f"no: {', '.join(differences)}" if differences else "yes",
                }
            )
    return pd.DataFrame(rows, columns=_COLUMNS)


def table_of(task: str, metric: str) -> str:
    """Return the table of the paper that has a metric of a task."""
    tables = published_results()["tables"][task.removesuffix("_published")]
    return tables.get(metric, tables["other"])


def _text(mean: float, sd: float | None) -> str:
    return f"{mean:.4g}" if sd is None or pd.isna(sd) else f"{mean:.4g} ± {sd:.2g}"
