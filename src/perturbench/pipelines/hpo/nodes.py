"""Search the hyperparameters of the chosen model on the validation part."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import anndata as ad
import pandas as pd

from perturbench.config import DataConfig, EvaluationConfig, HpoConfig, PredictionConfig, TrainerConfig
from perturbench.errors import PerturbenchError
from perturbench.pipelines.evaluation.nodes import chosen_metrics
from perturbench.pipelines.inputs import current_inputs, make_datamodule
from perturbench.provenance import KEY, fingerprint_parameters, stamp

logger = logging.getLogger(__name__)


def search(
    prepared: ad.AnnData,
    split: pd.DataFrame,
    data: DataConfig,
    trainer: TrainerConfig,
    evaluation: EvaluationConfig,
    prediction: PredictionConfig,
    hpo: HpoConfig,
    model_target: str,
    hparams: dict[str, Any],
    search_space: dict[str, dict[str, Any]],
    task: str,
    model: str,
    seed: int,
) -> pd.DataFrame:
    """Run, or go on with, the study of a model on a task; return its trials."""
    import lightning as L
    import optuna

    from perturbench.analysis.metrics import resolve_metrics
    from perturbench.models.search import PruneOnValLoss, suggest, validation_metrics
    from perturbench.models.training import build_model, fit
    from perturbench.tracking import child_run, log_metrics

    if not search_space:
        raise PerturbenchError(f"model '{model}' has no search_space in its YAML; there is nothing to search.")
    chosen_metrics(evaluation)
    resolve_metrics(list(hpo.objective))
    datamodule = make_datamodule(prepared, split, data, trainer, prediction, seed)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    suggest(optuna.create_study().ask(), search_space)  # a mistake in the search space is told before any trial
    fixed = {name: value for name, value in hparams.items() if name not in search_space}

    def try_hyperparameters(trial: optuna.Trial, chosen: dict[str, Any]) -> float | optuna.TrialPruned:
        L.seed_everything(seed, workers=True, verbose=False)
        network = build_model(model_target, datamodule.context, {**fixed, **chosen})
        try:
            arguments = trainer.fit_arguments()
            checkpoint = fit(network, datamodule, seed=seed, callbacks=[PruneOnValLoss(trial)], **arguments)
        except optuna.TrialPruned as pruned:
            return pruned
        metrics = validation_metrics(checkpoint, datamodule, list(hpo.objective), trainer.accelerator)
        log_metrics({f"val/{name}": value for name, value in metrics.items()})
        for name, value in metrics.items():
            trial.set_user_attr(name, value)
        return sum(weight * metrics[name] for name, weight in hpo.objective.items())

    def objective(trial: optuna.Trial) -> float:
        chosen = suggest(trial, search_space)
        with child_run(f"trial-{trial.number}", chosen):
            try:
                outcome = try_hyperparameters(trial, chosen)
            except Exception as error:
                trial.set_user_attr("error", f"{type(error).__name__}: {error}")
                raise
        if isinstance(outcome, optuna.TrialPruned):
            raise outcome
        return outcome

    # Trials are comparable only on the same data and with the same settings, so these are part of the study's name.
    settings = [data.keys.__dict__, hpo.objective, trainer, prediction, model_target, fixed, search_space, seed]
    inputs = [current_inputs(prepared, split, data.embedding_key), *settings]
    study = optuna.create_study(
        study_name=f"{task}/{model}/{fingerprint_parameters(inputs)}",
        storage=_storage(hpo.storage),
        load_if_exists=True,
        direction="minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=hpo.n_startup_trials, n_warmup_steps=trainer.min_epochs),
    )
    while (finished := _finished(study)) < hpo.n_trials:
        # Another seed for each trial: a sampler that starts over would suggest the first trials again.
        startup = hpo.n_startup_trials
        study.sampler = optuna.samplers.TPESampler(seed=1_000_003 * seed + finished, n_startup_trials=startup)
        logger.info("study '%s': %d of %d trials are done", study.study_name, finished, hpo.n_trials)
        study.optimize(objective, n_trials=1, catch=(Exception,))
    return _table(study, fixed, stamp(task=task, model=model, seed=seed, study=study.study_name))


def choose(trials: pd.DataFrame, task: str, model: str) -> dict[str, Any]:
    """Return the hyperparameters of the best completed trial, as ``hyperparameters:tuned`` reads them."""
    done = trials[trials["state"] == "COMPLETE"].dropna(subset=["value"])
    if done.empty:
        errors = trials["error"].dropna()
        raise PerturbenchError(
            f"none of {len(trials)} trials of '{model}' on '{task}' was completed"
            + (f"; the last failed with: {errors.iloc[-1]}" if len(errors) else ".")
        )
    best = done.loc[done["value"].idxmin()]
    return {
        "hparams": json.loads(best["hparams"]),
        "objective": float(best["value"]),
        "trial": int(best["number"]),
        "made_by": {**trials.attrs.get(KEY, {}), "trials": len(trials)},
    }


def _finished(study: Any) -> int:
    return sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))


def _table(study: Any, fixed: dict[str, Any], made_by: dict[str, Any]) -> pd.DataFrame:
    """Return one row per trial: its state, objective, hyperparameters (as JSON), metrics and error."""
    rows = [
        {
            "number": trial.number,
            "state": trial.state.name,
            "value": trial.value,
            "seconds": trial.duration.total_seconds() if trial.duration else None,
            "hparams": json.dumps({**fixed, **trial.params}, sort_keys=True),
            "error": trial.user_attrs.get("error"),
            **{f"val_{name}": value for name, value in trial.user_attrs.items() if name != "error"},
        }
        for trial in study.get_trials(deepcopy=False)
    ]
    table = pd.DataFrame(rows)
    table.attrs[KEY] = made_by
    return table


def _storage(url: str) -> Any:
    """Return a journal file, or a database that many workers share."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    if not url.startswith("journal:"):
        return optuna.storages.RDBStorage(url, heartbeat_interval=60, grace_period=120)
    path = Path(url.removeprefix("journal:"))
    path.parent.mkdir(parents=True, exist_ok=True)
    return optuna.storages.JournalStorage(JournalFileBackend(str(path)))
