"""Trying hyperparameters: suggest, train, and judge on the validation part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import optuna
from lightning.pytorch.callbacks import Callback

from perturbench.analysis.metrics.registry import resolve_metrics
from perturbench.analysis.score_table import summarise
from perturbench.errors import PerturbenchError
from perturbench.training.checkpoints import load_model
from perturbench.training.prediction import test_scores

if TYPE_CHECKING:
    import lightning as L

    from perturbench.data.loading.datamodule import PerturbationDataModule


def suggest(trial: optuna.Trial, space: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Draw a value for each hyperparameter of a search space.

    Parameters
    ----------
    trial
        Optuna's trial.
    space
        ``{name: {kind: float | int | categorical, ...}}``; the rest are arguments of ``trial.suggest_<kind>``.

    Raises
    ------
    PerturbenchError
        If an entry is not of this form.
    """
    draw: dict[Any, Any] = {
        "float": trial.suggest_float,
        "int": trial.suggest_int,
        "categorical": trial.suggest_categorical,
    }
    chosen = {}
    for name, entry in space.items():
        arguments = dict(entry) if isinstance(entry, Mapping) else {}
        kind = arguments.pop("kind", None)
        if kind not in draw:
            raise PerturbenchError(
                f"search_space.{name} is {entry!r}; it needs a kind, one of {', '.join(draw)}, and bounds or choices."
            )
        try:
            chosen[name] = draw[kind](name, **arguments)
        except (TypeError, ValueError) as error:
            raise PerturbenchError(f"search_space.{name} {dict(entry)} is not usable: {error}.") from error
    return chosen


def distributions(space: Mapping[str, Mapping[str, Any]]) -> dict[str, optuna.distributions.BaseDistribution]:
    """Return Optuna's distribution of each hyperparameter of a search space.

    Raises
    ------
    PerturbenchError
        As :func:`suggest`.
    """
    trial = optuna.create_study().ask()
    suggest(trial, space)
    return trial.distributions


def searched_part(
    hparams: Mapping[str, Any], space: Mapping[str, optuna.distributions.BaseDistribution]
) -> dict[str, Any]:
    """Return the hyperparameters that a search space is of; none if one of them lies outside of it.

    Parameters
    ----------
    hparams
        Hyperparameters, searched and others.
    space
        See :func:`distributions`.
    """
    params = {name: value for name, value in hparams.items() if name in space}
    try:
        return dict(optuna.create_trial(params=params, distributions=dict(space), value=0.0).params)
    except (TypeError, ValueError):
        return {}


def validation_metrics(
    checkpoint: Mapping[str, Any], datamodule: PerturbationDataModule, metrics: list[str], accelerator: str = "auto"
) -> dict[str, float]:
    """Return the mean of each metric over the perturbations of the validation part.

    Parameters
    ----------
    checkpoint
        Of the trained model.
    datamodule
        The data it was trained on.
    metrics
        Names of metrics.
    accelerator
        As in ``lightning.Trainer``.
    """
    resolve_metrics(metrics)
    model = load_model(checkpoint)
    model.test_metrics = metrics
    scores = test_scores(model, datamodule, "val", accelerator=accelerator)
    return {name: float(value) for name, value in summarise(scores, metrics).iloc[0].items()}


class PruneOnValLoss(Callback):
    """Report ``val_loss`` to a trial after each epoch, and stop where other trials were better by then.

    Parameters
    ----------
    trial
        Optuna's trial.
    spare
        Report only: the trial is wanted to its end.
    """

    def __init__(self, trial: optuna.Trial, *, spare: bool = False) -> None:
        self.trial = trial
        self.spare = spare

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report and decide."""
        self.trial.report(float(trainer.callback_metrics["val_loss"]), trainer.current_epoch)
        if not self.spare and self.trial.should_prune():
            raise optuna.TrialPruned(f"pruned after epoch {trainer.current_epoch + 1}")
