"""Search the hyperparameters of the chosen model on the validation part."""

from __future__ import annotations

import json
from typing import Any

import anndata as ad
import pandas as pd
import plotly.graph_objects as go

from perturbench.config.sections import DataConfig, EvaluationConfig, HpoConfig, PredictionConfig, TrainerConfig
from perturbench.errors import PerturbenchError, listing
from perturbench.pipelines.datamodule import make_datamodule
from perturbench.pipelines.hpo.objective import Objective
from perturbench.pipelines.hpo.search import require_searchable, run_search
from perturbench.pipelines.metrics import configured_metrics
from perturbench.pipelines.stamps import current_inputs, search_stamp
from perturbench.provenance import KEY, Stamp


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
    """Start a search, resume it, or join one that other workers run; return the table of all trials."""
    from perturbench.analysis.metrics.registry import resolve_metrics

    require_searchable(model, hparams, search_space)
    configured_metrics(evaluation)  # imports the user's metrics, because the objective may name one
    metrics = resolve_metrics(list(hpo.objective))
    fixed = {name: value for name, value in hparams.items() if name not in search_space}
    inputs = current_inputs(prepared, split, data.embedding_key)
    run = {"task": task, "model": model, "seed": seed}
    sections = (data, trainer, prediction, hpo)
    stamp = search_stamp(inputs, *sections, metrics, model_target, fixed, search_space, **run)
    datamodule = make_datamodule(prepared, split, data, trainer, prediction, seed)
    objective = Objective(datamodule, trainer, hpo.objective, model_target, fixed, search_space, seed)
    trials, study = run_search(stamp, objective, hpo, hparams, trainer.min_epochs)
    trials.attrs.update({KEY: stamp.text(), "study": study})
    return trials


def choose(trials: pd.DataFrame, task: str, model: str) -> dict[str, Any]:
    """Return the hyperparameters of the best completed trial, as ``hyperparameters:tuned`` reads them."""
    done = trials[trials["state"] == "COMPLETE"]
    if done.empty:
        errors = trials["error"].dropna().value_counts()
        raise PerturbenchError(
            f"none of the {len(trials)} trials of '{model}' on '{task}' was completed: "
            + listing(f"{error} ({count} trials)" for error, count in errors.items())
            + ". Fix the cause and raise hpo.n_trials: failed trials count towards it."
        )
    best = done.loc[done["value"].idxmin()]
    stamp = Stamp.read(trials.attrs)
    origin = {"version": stamp.version, "task": stamp.task, "model": stamp.model, "seed": stamp.seed} if stamp else {}
    return {
        "hparams": json.loads(best["hparams"]),
        "objective": float(best["value"]),
        "trial": int(best["number"]),
        "made_by": {**origin, "study": trials.attrs.get("study"), "trials": len(trials)},
    }


def plot_history(trials: pd.DataFrame, title: str, model: str) -> go.Figure:
    """Draw the objective over the trials."""
    from perturbench.tuning.results import plot_history as draw

    return draw(trials, f"{title}: search of {model}")


def plot_importance(trials: pd.DataFrame, search_space: dict[str, dict[str, Any]], title: str, model: str) -> go.Figure:
    """Draw the importance of each hyperparameter for the objective."""
    from perturbench.tuning.results import plot_importance as draw

    return draw(trials, search_space, f"{title}: importance of the hyperparameters of {model}")
