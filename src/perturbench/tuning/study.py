"""One study that many workers share: who takes the next trial, and what becomes of a trial whose worker died."""

from __future__ import annotations

import logging
import time
import warnings
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState

from perturbench.tuning.retries import counted_trials, queue_again

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from perturbench.tuning.storage import SharedStorage

_SECONDS_BETWEEN_LOOKS = 1.0

_log = logging.getLogger(__name__)


def queue_start(study: optuna.Study, hparams: Mapping[str, Any], params: Mapping[str, Any], n_trials: int) -> None:
    """Queue the hyperparameters that a search starts from, unless they are there or no trial is left for them.

    Parameters
    ----------
    study
        To queue in; call it in one's turn.
    hparams
        All hyperparameters to start from; the trial's user attribute ``start``.
    params
        Those of them that are searched, for the sampler to learn from; empty if they lie outside the search space.
    n_trials
        How many trials the study has in all.
    """
    trials = counted_trials(study)
    if any(trial.user_attrs.get("start") == hparams for trial in trials):
        return
    if len(trials) >= n_trials:
        _log.warning("all %d trials are taken: the hyperparameters to start from are not tried", n_trials)
        return
    study.enqueue_trial(dict(params), user_attrs={"start": dict(hparams)})


def run_trials(
    study: optuna.Study,
    storage: SharedStorage,
    objective: Callable[[optuna.Trial], float],
    n_trials: int,
    n_startup_trials: int = 10,
    seed: int = 0,
) -> None:
    """Take trials in turn with other workers until the study has ``n_trials`` finished ones.

    A worker looks at the study and takes a trial while no other does, so that no more are begun than are wanted. One
    that finds nothing left to take waits for the others' running trials, and takes those over whose worker dies.

    Parameters
    ----------
    study, storage
        The study, and the storage that it is in.
    objective
        Returns the value of a trial. What it raises makes the trial a failed one with the user attribute ``error``,
        which counts, and is not fatal.
    n_trials
        How many trials count in the end, whoever ran them.
    n_startup_trials
        Random ones, before the sampler learns.
    seed
        Of the sampler.
    """
    waited = False
    while True:
        with ExitStack() as turn:
            turn.enter_context(storage.turn())
            storage.recover(study)
            trials = counted_trials(study)
            states = [trial.state for trial in trials]
            if TrialState.WAITING in states or len(trials) < n_trials:
                done = sum(state.is_finished() for state in states)
                _log.info("study '%s': %d of %d trials are done", study.study_name, done, max(n_trials, len(trials)))
                taken = sum(trial.state != TrialState.WAITING for trial in study.get_trials(deepcopy=False))
                # A sampler that starts over, or another worker's, would suggest the same again with the same seed.
                study.sampler = _sampler(1_000_003 * seed + taken, n_startup_trials)
                _try_one(study, storage, objective, turn)
                continue
        if TrialState.RUNNING not in states:
            return
        if not waited:
            _log.info("study '%s': waiting for the trials of other workers", study.study_name)
            waited = True
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _try_one(
    study: optuna.Study, storage: SharedStorage, objective: Callable[[optuna.Trial], float], turn: ExitStack
) -> None:
    """Take a trial, end the turn, and run it."""
    number = None

    def run(trial: optuna.Trial) -> float:
        nonlocal number
        number = trial.number
        storage.sign(trial)
        turn.close()
        try:
            return objective(trial)
        except optuna.TrialPruned:
            raise
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
            _log.warning("trial %d failed: %s", trial.number, words)
            trial.set_user_attr("error", words)
            raise

    try:
        study.optimize(run, n_trials=1, catch=(Exception,))
    except KeyboardInterrupt:
        turn.close()
        if number is not None:
            with storage.turn():
                queue_again(study, study.get_trials(deepcopy=False)[number])
        raise
    except Exception as error:
        if number is None or not study.get_trials(deepcopy=False)[number].state.is_finished():
            raise
        _log.warning("trial %d was taken for lost and its result is not used: %s", number, error)


def _sampler(seed: int, n_startup_trials: int) -> optuna.samplers.TPESampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # Grouped: a start outside the search space, which has no parameters, does not end the joint sampling of others.
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=n_startup_trials, multivariate=True, group=True)
