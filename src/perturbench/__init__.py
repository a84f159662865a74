"""PerturBench: train, compare and trust models of single-cell perturbation responses."""

__version__ = "0.1.0"

#: Class that finds a task by its name for ``Evaluator(task=...)``, imported when a name is first asked for.
TASK_SOURCE = "perturbench.config.project_tasks:ProjectTasks"
