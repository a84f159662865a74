"""Search spaces, and the steps of a trial: suggest hyperparameters, prune, and score the validation part."""

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
        ``{name: {kind: float | int | categorical, ...}}``; the other entries are arguments of
        ``trial.suggest_<kind>``.

    Raises
    ------
    PerturbenchError
        If an entry does not have this form.
    """
    draw: dict[Any, Any] = {
        "float": trial.suggest_float,
        "int": trial.suggest_int,
        "categorical": trial.suggest_categorical,
    }
    suggested = {}
    for name, entry in space.items():
        arguments = dict(entry) if isinstance(entry, Mapping) else {}
        kind = arguments.pop("kind", None)
        if kind not in draw:
            raise PerturbenchError(
                f"search_space.{name} is {entry!r}; it needs a kind, one of {', '.join(draw)}, and bounds or choices."
            )
        try:
            suggested[name] = draw[kind](name, **arguments)
        except (TypeError, ValueError) as error:
            raise PerturbenchError(f"search_space.{name} {dict(entry)} cannot be used: {error}.") from error
    return suggested


def distributions(space: Mapping[str, Mapping[str, Any]]) -> dict[str, optuna.distributions.BaseDistribution]:
    """Return Optuna's distribution of each hyperparameter of a search space.

    Raises
    ------
    PerturbenchError
        If an entry does not have the form that :func:`suggest` needs.
    """
    trial = optuna.create_study().ask()
    suggest(trial, space)
    return trial.distributions


def searched_part(
    hparams: Mapping[str, Any], space: Mapping[str, optuna.distributions.BaseDistribution]
) -> dict[str, Any]:
    """Return the searched hyperparameters; an empty dictionary if one of them lies outside the search space.

    Parameters
    ----------
    hparams
        All hyperparameters, the searched and the fixed ones.
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
        Checkpoint of the trained model.
    datamodule
        The data that the model was trained on.
    metrics
        Names of the metrics.
    accelerator
        Device to predict on, as in ``lightning.Trainer``.
    """
    resolve_metrics(metrics)
    model = load_model(checkpoint)
    model.test_metrics = metrics
    scores = test_scores(model, datamodule, "val", accelerator=accelerator)
    return {name: float(value) for name, value in summarise(scores, metrics).iloc[0].items()}


class PruneOnValLoss(Callback):
    """Report ``val_loss`` to a trial after each epoch, and prune the trial if the study's pruner says so.

    Parameters
    ----------
    trial
        Optuna's trial.
    protect
        Whether never to prune this trial, but only to report its loss.
    """

    def __init__(self, trial: optuna.Trial, *, protect: bool = False) -> None:
        self.trial = trial
        self.protect = protect

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report the loss and ask the pruner."""
        self.trial.report(float(trainer.callback_metrics["val_loss"]), trainer.current_epoch)
        if not self.protect and self.trial.should_prune():
            raise optuna.TrialPruned(f"pruned after epoch {trainer.current_epoch + 1}")
