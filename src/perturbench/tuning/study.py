"""A study that several workers share: its first trial, and the loop in which each worker runs trials.

``Study.optimize`` counts only the trials of its own worker and waits for no other, hence the loop in this module.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState

from perturbench.tuning.storage import fail_stale_trials, retried_trials, retry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

    from perturbench.tuning.storage import JournalFile

_SECONDS_BETWEEN_LOOKS = 1.0

_log = logging.getLogger(__name__)


def queue_start(study: optuna.Study, hparams: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Queue the hyperparameters that a search starts from, unless the study already has a trial with them.

    Parameters
    ----------
    study
        The study; call this inside :func:`~perturbench.tuning.storage.set_up_storage`, so that only one worker queues.
    hparams
        All hyperparameters to start from. They become the trial's user attribute ``start``.
    params
        The searched part of ``hparams``, which the sampler learns from; empty if it lies outside the search space.
    """
    if all(trial.user_attrs.get("start") != hparams for trial in study.get_trials(deepcopy=False)):
        study.enqueue_trial(dict(params), user_attrs={"start": dict(hparams)})


def counted_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that count towards ``n_trials``: all trials except those that were repeated later."""
    trials = study.get_trials(deepcopy=False)
    retried = {number for trial in trials for number in retried_trials(trial)}
    return [trial for trial in trials if trial.number not in retried]


def run_trials(
    study: optuna.Study,
    storage: JournalFile | RDBStorage,
    objective: Callable[[optuna.Trial], float],
    n_trials: int,
    n_startup_trials: int = 10,
    seed: int = 0,
) -> None:
    """Run trials until the study has ``n_trials`` finished ones, together with the other workers of the study.

    Workers that check the study at the same moment may each start the last trial, so there can be one extra trial per
    worker. A worker with nothing left to start waits for the running trials of the others, and repeats those whose
    worker dies. Queued trials are always run, even if the study already has ``n_trials``.

    Parameters
    ----------
    study, storage
        The study, and the storage that holds it.
    objective
        Function that returns the value of a trial. If it raises an exception, the trial fails: it gets the user
        attribute ``error`` and counts towards ``n_trials``, and the search continues.
    n_trials
        Number of trials of all workers together.
    n_startup_trials
        Number of random trials before the sampler learns.
    seed
        Seed of the sampler.
    """
    study.sampler = _SeededByTrial(seed, n_startup_trials)
    waited = False
    while True:
        fail_stale_trials(study)
        # Skip running trials without a worker: they have just been started, or died before their first heartbeat.
        states = Counter(
            trial.state
            for trial in counted_trials(study)
            if trial.state != TrialState.RUNNING or "worker" in trial.user_attrs
        )
        running, total = states[TrialState.RUNNING], states.total()
        if states[TrialState.WAITING] or total < n_trials:
            done = total - running - states[TrialState.WAITING]
            _log.info("study '%s': %d of %d trials are done", study.study_name, done, max(n_trials, total))
            _run_one(study, storage, objective)
            continue
        if not running:
            return
        if not waited:
            _log.info("study '%s': waiting for the trials of other workers", study.study_name)
            waited = True
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _run_one(
    study: optuna.Study, storage: JournalFile | RDBStorage, objective: Callable[[optuna.Trial], float]
) -> None:
    number = None

    def run(trial: optuna.Trial) -> float:
        nonlocal number
        number = trial.number
        try:
            # Heartbeat first: other workers wait for a trial with a worker, and detect by its heartbeat if that dies.
            storage.record_heartbeat(trial._trial_id)
            trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")
            return objective(trial)
        except optuna.TrialPruned:
            raise
        except KeyboardInterrupt:
            retry(study, study.get_trials()[number])
            raise
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            _log.warning("trial %d failed: %s", number, message)
            trial.set_user_attr("error", message)
            raise

    try:
        study.optimize(run, n_trials=1, catch=(Exception,))
    except Exception as error:  # storages raise different errors if the trial was already marked as failed
        if number is None or study.get_trials(deepcopy=False)[number].state != TrialState.FAIL:
            raise
        _log.warning("trial %d was considered dead, so its result is not used: %s", number, error)


class _SeededByTrial(optuna.samplers.TPESampler):
    """TPE sampler that is seeded again for each trial, from the seed and the trial's number.

    Workers therefore never draw the same values, and a resumed search draws the values that it would have drawn without
    the interruption. ``group=True`` keeps joint sampling of the search space even if the first trial lies outside it
    and has no parameters.
    """

    def __init__(self, seed: int, n_startup_trials: int) -> None:
        self._seed, self._startup = seed, n_startup_trials
        self._reseed(0)

    def _reseed(self, number: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            super().__init__(
                seed=1_000_003 * self._seed + number, n_startup_trials=self._startup, multivariate=True, group=True
            )

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Seed the sampler for this trial; Optuna calls this before it samples."""
        self._reseed(trial.number)
        super().before_trial(study, trial)
