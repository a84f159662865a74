"""The tasks of a project's configuration, for ``Evaluator(task=...)``."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset
from kedro.utils import find_kedro_project

from perturbench.analysis.benchmarks.tasks import Task
from perturbench.config.loader import LayeredConfigLoader
from perturbench.data.groups import Keys
from perturbench.errors import PerturbenchError
from perturbench.provenance import Stamp

if TYPE_CHECKING:
    import anndata as ad

#: Names of tasks in the paper's code, and the project's names of the same tasks.
PAPER_TASKS = {
    "srivatsan20-transfer": "srivatsan20",
    "norman19-combo": "norman19",
    "mcfaline23-transfer": "mcfaline23_full",
    "frangieh21-transfer": "frangieh21",
    "jiang24-transfer": "jiang24",
}


class ProjectTasks:
    """Tasks of a project, with their cells and splits as the catalog stores them.

    Parameters
    ----------
    folder
        Folder of the project, or any folder inside it.

    Raises
    ------
    PerturbenchError
        If the folder is not inside a project.
    """

    def __init__(self, folder: str | Path = ".") -> None:
        path = Path(folder).resolve()
        root = find_kedro_project(path)
        if root is None:
            raise PerturbenchError(
                f"a task name needs a project, and '{path}' is not inside one; work in the project's folder, or give "
                "the folder: Evaluator(task, source=ProjectTasks(folder))."
            )
        self._root = Path(root)

    def names(self) -> list[str]:
        """Return the names of the tasks in ``conf/``, and the paper's names of some tasks."""
        return sorted({*PAPER_TASKS, *self._loader().of_every_task()})

    def load(self, name: str) -> Task:
        """Return a task with its prepared cells and its split.

        Raises
        ------
        PerturbenchError
            If the task is not prepared yet, or was prepared by another version of the package.
        """
        task = PAPER_TASKS.get(name, name)
        catalog = self._loader(task=task)["catalog"]
        cells: ad.AnnData = self._load(task, "prepared", catalog)
        split = self._load(task, "split", catalog)["split"]
        stamp = Stamp.read(cells.uns)
        if stamp is None:
            raise PerturbenchError(
                f"the cells of task '{task}' were not prepared by this version of perturbench. Prepare them again in "
                f"the project's folder: kedro run --pipeline=preprocessing --params=task:{task}"
            )
        keys = stamp.settings["keys"]
        return Task(cells, split, Keys(**{**keys, "covariates": tuple(keys["covariates"])}))

    def _load(self, task: str, name: str, catalog: dict[str, Any]) -> Any:
        entry = catalog[name]
        path = (self._root / entry["filepath"]).as_posix()
        dataset: Any = AbstractDataset.from_config(name, {**entry, "filepath": path})
        if not dataset.exists():
            raise PerturbenchError(
                f"task '{task}' is not prepared yet: '{path}' does not exist. Prepare it in the project's folder: "
                f"kedro run --pipelines=ingestion,splitting,preprocessing --params=task:{task}"
            )
        return dataset.load()

    def _loader(self, **params: Any) -> LayeredConfigLoader:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "register_new_resolver", UserWarning)
            return LayeredConfigLoader(
                str(self._root / "conf"), base_env="base", default_run_env="local", runtime_params=params
            )
