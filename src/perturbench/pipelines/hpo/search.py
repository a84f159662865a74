"""The study of a search: the stored study with the same stamp, or a new one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from perturbench.errors import PerturbenchError, listing
from perturbench.provenance import KEY, Stamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    import optuna
    import pandas as pd

    from perturbench.config.sections import HpoConfig
    from perturbench.pipelines.hpo.objective import Objective

logger = logging.getLogger(__name__)


def require_searchable(model: str, hparams: Mapping[str, Any], search_space: Mapping[str, Any]) -> None:
    """Refuse a model without a search space, and a search space of hyperparameters that the model does not have."""
    if not search_space:
        raise PerturbenchError(f"model '{model}' has no search_space in its YAML; add one, or choose another model.")
    if unknown := sorted(set(search_space) - set(hparams)):
        raise PerturbenchError(f"search_space names hyperparameters that '{model}' does not have: {listing(unknown)}.")


def run_search(
    stamp: Stamp, objective: Objective, hpo: HpoConfig, hparams: Mapping[str, Any], warmup: int
) -> tuple[pd.DataFrame, str]:
    """Run trials until the study has ``hpo.n_trials``; return the table of trials and the name of the study.

    Parameters
    ----------
    stamp
        Everything that the value of a trial depends on. Trials with the same stamp share a study.
    objective
        Function that trains with a trial's hyperparameters and returns the value to minimise.
    hpo
        Settings of the search: the number of trials and where they are stored.
    hparams
        All hyperparameters of the first trial.
    warmup
        Number of epochs that every trial trains before it can be pruned.
    """
    import optuna

    from perturbench.tuning.results import trials_table
    from perturbench.tuning.search_space import distributions, searched_part
    from perturbench.tuning.storage import set_up_storage
    from perturbench.tuning.study import queue_start, run_trials

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    start = searched_part(hparams, distributions(objective.space))
    with set_up_storage(hpo.storage, hpo.heartbeat) as storage:
        study = _open_study(storage, stamp, hpo.n_startup_trials, warmup)
        queue_start(study, hparams, start)
    run_trials(study, storage, objective, hpo.n_trials, hpo.n_startup_trials, objective.seed)
    return trials_table(study), study.study_name


def _open_study(storage: Any, stamp: Stamp, n_startup_trials: int, warmup: int) -> optuna.Study:
    """Return the study with this stamp; create it if it does not exist."""
    import optuna

    prefix = f"{stamp.task}/{stamp.model}/"
    name = prefix + stamp.fingerprint()
    others = [other for other in optuna.get_all_study_names(storage) if other.startswith(prefix)]
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        load_if_exists=True,
        direction="minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=n_startup_trials, n_warmup_steps=warmup),
    )
    if KEY not in study.user_attrs:
        study.set_user_attr(KEY, stamp.text())
    if others and name not in others:
        _log_new_study(optuna.load_study(study_name=others[-1], storage=storage), stamp)
    return study


def _log_new_study(last: optuna.Study, stamp: Stamp) -> None:
    """Log why the last study of the model on the task is not continued."""
    before = Stamp.read(last.user_attrs)
    if before is not None:
        logger.info("a new study begins, because this changed: %s", "; ".join(stamp.differences(before)))
