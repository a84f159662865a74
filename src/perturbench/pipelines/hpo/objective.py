"""The objective of the search: train with the hyperparameters of a trial and score the validation part."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perturbench.config.sections import TrainerConfig
from perturbench.errors import PerturbenchError, listing

if TYPE_CHECKING:
    import optuna

    from perturbench.data import PerturbationDataModule


@dataclass
class Objective:
    """Train with a trial's hyperparameters and score the validation part, in an MLflow run per trial.

    Attributes
    ----------
    datamodule, trainer, model_target, seed
        Data, trainer settings, import path of the model's class, and seed of each training.
    weights
        Weight of each metric in the objective, by the metric's name.
    fixed, space
        Hyperparameters that are not searched, and the search space of the others.
    """

    datamodule: PerturbationDataModule
    trainer: TrainerConfig
    weights: dict[str, float]
    model_target: str
    fixed: dict[str, Any]
    space: dict[str, dict[str, Any]]
    seed: int

    def __call__(self, trial: optuna.Trial) -> float:
        """Return the weighted sum of the metrics."""
        import optuna

        from perturbench.pipelines.tracking import child_run

        hparams = self._hyperparameters(trial)
        trial.set_user_attr("hparams", hparams)
        with child_run(f"trial-{trial.number}", {name: hparams[name] for name in self.space}):
            try:
                return self._train_and_score(trial, hparams)
            except optuna.TrialPruned as error:
                pruned = error
        raise pruned  # after the MLflow run has ended, because an exception inside marks the run as failed

    def _hyperparameters(self, trial: optuna.Trial) -> dict[str, Any]:
        from perturbench.tuning.search_space import distributions, searched_part, suggest

        start = trial.user_attrs.get("start")
        if start is not None and not searched_part(start, distributions(self.space)):
            return start  # outside the search space, so the trial has nothing to suggest
        return {**self.fixed, **suggest(trial, self.space)}

    def _train_and_score(self, trial: optuna.Trial, hparams: dict[str, Any]) -> float:
        import lightning as L

        from perturbench.pipelines.tracking import log_metrics
        from perturbench.training.checkpoints import build_model
        from perturbench.training.fitting import fit
        from perturbench.tuning.search_space import PruneOnValLoss, validation_metrics

        L.seed_everything(self.seed, workers=True, verbose=False)
        network = build_model(self.model_target, self.datamodule.context, hparams)
        prune = PruneOnValLoss(trial, protect="start" in trial.user_attrs)
        checkpoint = fit(network, self.datamodule, self.trainer, seed=self.seed, callbacks=[prune])
        metrics = validation_metrics(checkpoint, self.datamodule, list(self.weights), self.trainer.accelerator)
        trial.set_user_attr("metrics", metrics)
        log_metrics({f"val/{name}": value for name, value in metrics.items()})
        if undefined := [name for name, value in metrics.items() if math.isnan(value)]:
            raise PerturbenchError(f"{listing(undefined)} of the validation part is NaN; the part may be too small.")
        return sum(weight * metrics[name] for name, weight in self.weights.items())
