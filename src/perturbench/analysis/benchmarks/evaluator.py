"""The Evaluator of the paper (appendix A.5, listing 6): score predictions for a task by its name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import pandas as pd

from perturbench.analysis.anchors import anchor_scores
from perturbench.analysis.evaluation import Evaluation, evaluate
from perturbench.analysis.metrics.registry import resolve_metrics
from perturbench.data.groups import Groups, Keys
from perturbench.data.labels import align_split, evaluation_rows
from perturbench.errors import PerturbenchError, require_choice
from perturbench.provenance import Stamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perturbench.analysis.profiles import Missing, Negative

#: The paper's names of its tasks, and ours.
PAPER_TASKS = {
    "srivatsan20-transfer": "srivatsan20",
    "norman19-combo": "norman19",
    "mcfaline23-transfer": "mcfaline23_full",
    "frangieh21-transfer": "frangieh21",
    "jiang24-transfer": "jiang24",
}


class Evaluator:
    """Score predictions against a task's held-out cells.

    Parameters
    ----------
    task
        A name of the paper (``norman19-combo``) or of the project's ``conf/`` (``demo``).
    project
        Folder of the project, whose prepared cells and split are used.

    Raises
    ------
    PerturbenchError
        If the task is unknown, or its cells are not prepared yet.

    Examples
    --------
    >>> evaluator = Evaluator(task="srivatsan20-transfer")  # doctest: +SKIP
    >>> evaluator.evaluate({"CPA_pred": cpa_pred}).summary  # doctest: +SKIP
    """

    def __init__(self, task: str, project: str | Path = ".") -> None:
        require_choice("task", task, self.list_tasks(project))
        self.task = PAPER_TASKS.get(task, task)
        cells = Path(project) / f"data/03_primary/{self.task}/prepared.h5ad"
        split = Path(project) / f"data/05_model_input/{self.task}/split.parquet"
        for path in (cells, split):
            if not path.is_file():
                raise PerturbenchError(
                    f"task '{task}' has no cells to evaluate with yet: '{path}' is not there. Prepare them in the "
                    f"project: kedro run --pipelines=ingestion,splitting,preprocessing --params=task:{self.task}"
                )
        prepared = ad.read_h5ad(cells)
        stamp = Stamp.read(prepared.uns)
        if stamp is None:
            raise PerturbenchError(
                f"'{cells}' was not prepared by this version of perturbench. Prepare the cells again in the project: "
                f"kedro run --pipeline=preprocessing --params=task:{self.task}"
            )
        stored = stamp.settings["keys"]
        self.keys = Keys(**{**stored, "covariates": tuple(stored["covariates"])})
        labels = align_split(pd.read_parquet(split)["split"], prepared.obs_names)
        groups = Groups.from_obs(prepared.obs, self.keys)
        self.reference = prepared[evaluation_rows(labels, groups, "test", "all")].copy()
        self._training = prepared[labels == "train"]

    @staticmethod
    def list_tasks(project: str | Path = ".") -> list[str]:
        """Return the names of tasks: the paper's, and those of the project."""
        folders = [Path(project) / f"conf/{env}/parameters/tasks" for env in ("base", "local")]
        return sorted({*PAPER_TASKS, *(path.stem for folder in folders for path in folder.glob("*.yml"))})

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
            For each model its predicted cells or one row per group, with the task's columns in ``obs``.
        metrics, missing
            As in :func:`perturbench.analysis.evaluate`.
        negative
            Likewise; here negative means are clipped unless they are to be refused, as in the project's pipeline.
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
        """Return the scores of the task's anchors, see :func:`perturbench.analysis.anchors.anchor_scores`."""
        return anchor_scores(self.reference, self._training, self.keys, resolve_metrics(metrics), seed)
