"""A study that several workers share: its first trial, and the loop in which each worker runs trials.

The loop is ours because ``Study.optimize`` alone counts the trials of one worker, and waits for no other.
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
    """Queue the hyperparameters that a search starts from, unless the study has a trial of them.

    Parameters
    ----------
    study
        The study; call this inside :func:`~perturbench.tuning.storage.set_up_storage`, so that only one worker queues.
    hparams
        All hyperparameters to start from. They become the trial's user attribute ``start``.
    params
        The searched ones among them, for the sampler to learn from; empty if they lie outside the search space.
    """
    if all(trial.user_attrs.get("start") != hparams for trial in study.get_trials(deepcopy=False)):
        study.enqueue_trial(dict(params), user_attrs={"start": dict(hparams)})


def counted_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that count: all but those that were retried."""
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

    Workers that look at the study at the same moment may each begin the last trial, so there can be one trial more per
    worker. A worker that finds nothing left waits for the running trials of the others, and takes over those whose
    worker dies. Waiting trials are always run, also if the study has enough.

    Parameters
    ----------
    study, storage
        The study, and the storage that holds it.
    objective
        Returns the value of a trial. An exception makes it a failed trial with the user attribute ``error``, which
        counts, and the search goes on.
    n_trials
        Number of trials that count, of all workers together.
    n_startup_trials
        Number of random trials before the sampler learns.
    seed
        Seed of the sampler.
    """
    study.sampler = _SeededByTrial(seed, n_startup_trials)
    waited = False
    while True:
        fail_stale_trials(study)
        # A running trial without a worker has just been taken, or was lost before its first heartbeat.
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
            # The heartbeat comes first: others wait for a trial that has a worker, and have to notice if it dies.
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
    except Exception as error:  # Optuna has no one error for a result that comes after the trial was failed
        if number is None or study.get_trials(deepcopy=False)[number].state != TrialState.FAIL:
            raise
        _log.warning("trial %d was taken for dead and its result is not used: %s", number, error)


class _SeededByTrial(optuna.samplers.TPESampler):
    """TPE that starts anew with a seed per trial: workers never draw the same, and a resumed search goes on the same.

    Groups keep the joint sampling of the search space although a start outside of it has no parameters.
    """

    def __init__(self, seed: int, n_startup_trials: int) -> None:
        self._seed, self._startup = seed, n_startup_trials
        self._start_anew(0)

    def _start_anew(self, number: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            super().__init__(
                seed=1_000_003 * self._seed + number, n_startup_trials=self._startup, multivariate=True, group=True
            )

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Start anew; Optuna calls this before it samples a trial."""
        self._start_anew(trial.number)
        super().before_trial(study, trial)
