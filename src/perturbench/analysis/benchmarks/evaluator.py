"""The Evaluator of the paper (appendix A.5, listing 6): score predictions for a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perturbench.analysis.anchors import anchor_scores
from perturbench.analysis.benchmarks.tasks import Task, default_source
from perturbench.analysis.evaluation import Evaluation, evaluate
from perturbench.analysis.metrics.registry import resolve_metrics
from perturbench.data.groups import Groups
from perturbench.data.labels import align_split, evaluation_rows
from perturbench.errors import require_choice

if TYPE_CHECKING:
    from collections.abc import Mapping

    import anndata as ad
    import pandas as pd

    from perturbench.analysis.benchmarks.tasks import TaskSource
    from perturbench.analysis.profiles import Missing, Negative


class Evaluator:
    """Score predictions against the held-out cells of a task.

    Parameters
    ----------
    task
        Name of the task, or the task itself: a :class:`~perturbench.analysis.benchmarks.tasks.Task`.
    source
        Where names of tasks are looked up; by default the project of the working directory.

    Attributes
    ----------
    reference
        Test cells and all control cells that the split uses.

    Raises
    ------
    PerturbenchError
        If the source has no task of that name, or its cells or split do not exist yet.

    Examples
    --------
    >>> evaluator = Evaluator(task="srivatsan20-transfer")  # doctest: +SKIP
    >>> evaluator.evaluate({"CPA_pred": cpa_pred}).summary  # doctest: +SKIP
    """

    def __init__(self, task: str | Task, source: TaskSource | None = None) -> None:
        if isinstance(task, str):
            source = source or default_source()
            require_choice("task", task, source.names())
            task = source.load(task)
        labels = align_split(task.split, task.cells.obs_names)
        rows = evaluation_rows(labels, Groups.from_obs(task.cells.obs, task.keys), "test", "all")
        self.keys = task.keys
        self.reference = task.cells[rows].copy()
        self._training = task.cells[labels == "train"]

    @staticmethod
    def list_tasks(source: TaskSource | None = None) -> list[str]:
        """Return the names of all tasks, by default those of the project of the working directory."""
        return (source or default_source()).names()

    def evaluate(
        self,
        predictions: Mapping[str, ad.AnnData],
        metrics: str | list[str] = "default",
        *,
        negative: Negative = "clip",
        missing: Missing = "refuse",
    ) -> Evaluation:
        """Score predictions.

        Parameters
        ----------
        predictions
            Predicted cells of each model by its name, or one row per (state, perturbation); ``obs`` has the columns of
            the task.
        metrics, missing
            See :func:`perturbench.analysis.evaluate`.
        negative
            Whether negative predicted means are an error (``refuse``) or count as 0 (``clip``) where a metric takes
            their logarithm. The default is that of the evaluation pipeline.
        """
        return evaluate(
            predictions,
            self.reference,
            perturbation_key=self.keys.perturbation,
            covariate_keys=self.keys.covariates,
            control=str(self.keys.control),
            delimiter=self.keys.delimiter,
            metrics=metrics,
            negative=negative,
            missing=missing,
        )

    def anchors(self, metrics: str | list[str] = "default", seed: int = 0) -> pd.DataFrame:
        """Return the scores of the task's anchors, see :func:`perturbench.analysis.anchor_scores`."""
        return anchor_scores(self.reference, self._training, self.keys, resolve_metrics(metrics), seed)
