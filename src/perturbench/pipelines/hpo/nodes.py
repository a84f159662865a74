"""Search the hyperparameters of the chosen model on the validation part."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anndata as ad
import pandas as pd
import plotly.graph_objects as go

from perturbench.config.sections import DataConfig, EvaluationConfig, HpoConfig, PredictionConfig, TrainerConfig
from perturbench.errors import PerturbenchError, listing
from perturbench.pipelines.evaluation.nodes import configured_metrics
from perturbench.pipelines.hpo.objective import Objective
from perturbench.pipelines.inputs import current_inputs, make_datamodule
from perturbench.provenance import KEY, fingerprint_module, fingerprint_parameters, stamp

if TYPE_CHECKING:
    import optuna


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
    """Start or resume the search for a model on a task, or join its workers; return all trials."""
    import optuna

    from perturbench.analysis.metrics.registry import resolve_metrics
    from perturbench.tuning.results import trials_table
    from perturbench.tuning.search_space import distributions, searched_part
    from perturbench.tuning.storage import set_up_storage
    from perturbench.tuning.study import queue_start, run_trials

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    _require_searchable(model, hparams, search_space)
    configured_metrics(evaluation)
    resolve_metrics(list(hpo.objective))
    fixed = {name: value for name, value in hparams.items() if name not in search_space}
    settings = {
        "inputs": current_inputs(prepared, split, data.embedding_key),
        "keys": data.keys.__dict__,
        "objective": hpo.objective,
        "trainer": trainer.result_fields(),
        "prediction": prediction.model_dump(),
        "model": model_target,
        "code": fingerprint_module(model_target.rpartition(".")[0]),
        "fixed": fixed,
        "search_space": search_space,
        "seed": seed,
    }
    datamodule = make_datamodule(prepared, split, data, trainer, prediction, seed)
    objective = Objective(datamodule, trainer, hpo.objective, model_target, fixed, search_space, seed)
    start = searched_part(hparams, distributions(search_space))
    with set_up_storage(hpo.storage, hpo.heartbeat) as storage:
        study = _study(storage, f"{task}/{model}", settings, hpo.n_startup_trials, trainer.min_epochs)
        queue_start(study, hparams, start)
    run_trials(study, storage, objective, hpo.n_trials, hpo.n_startup_trials, seed)
    table = trials_table(study)
    table.attrs[KEY] = stamp(task=task, model=model, seed=seed, study=study.study_name)
    return table


def choose(trials: pd.DataFrame, task: str, model: str) -> dict[str, Any]:
    """Return the hyperparameters of the best completed trial, as ``hyperparameters:tuned`` reads them."""
    done = trials[trials["state"] == "COMPLETE"]
    if done.empty:
        errors = trials["error"].dropna().value_counts()
        raise PerturbenchError(
            f"none of {len(trials)} trials of '{model}' on '{task}' was completed: "
            + listing(f"{error} ({count} trials)" for error, count in errors.items())
            + ". Fix the cause and raise hpo.n_trials: failed trials count towards it."
        )
    best = done.loc[done["value"].idxmin()]
    return {
        "hparams": json.loads(best["hparams"]),
        "objective": float(best["value"]),
        "trial": int(best["number"]),
        "made_by": {**trials.attrs.get(KEY, {}), "trials": len(trials)},
    }


def plot_history(trials: pd.DataFrame, title: str, model: str) -> go.Figure:
    """Draw the objective over the trials."""
    from perturbench.tuning.results import plot_history as draw

    return draw(trials, f"{title}: search of {model}")


def plot_importance(trials: pd.DataFrame, search_space: dict[str, dict[str, Any]], title: str, model: str) -> go.Figure:
    """Draw how much each hyperparameter mattered."""
    from perturbench.tuning.results import plot_importance as draw

    return draw(trials, search_space, f"{title}: importance of the hyperparameters of {model}")


def _require_searchable(model: str, hparams: dict[str, Any], search_space: dict[str, dict[str, Any]]) -> None:
    if not search_space:
        raise PerturbenchError(f"model '{model}' has no search_space in its YAML; there is nothing to search.")
    if unknown := sorted(set(search_space) - set(hparams)):
        raise PerturbenchError(f"search_space names hyperparameters that '{model}' does not have: {listing(unknown)}.")


def _study(storage: Any, name: str, settings: dict[str, Any], n_startup_trials: int, warmup: int) -> optuna.Study:
    """Return the study of exactly these data and settings: only trials with equal settings are comparable."""
    import optuna

    study = optuna.create_study(
        study_name=f"{name}/{fingerprint_parameters(settings)}",
        storage=storage,
        load_if_exists=True,
        direction="minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=n_startup_trials, n_warmup_steps=warmup),
    )
    if "settings" not in study.user_attrs:
        study.set_user_attr("settings", settings)
    return study
