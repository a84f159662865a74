"""Storages that the workers of a search share: a journal file on one machine, a PostgreSQL database for several.

Optuna stores the trials, detects dead workers by their missing heartbeats and queues their trials again. This module
adds two things: heartbeats for a journal file, which Optuna has for databases only, and a lock for setting up a study,
because Optuna creates a database's tables and enqueues trials without one.
"""

from __future__ import annotations

import time
import warnings
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from perturbench.errors import PerturbenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from optuna.trial import FrozenTrial

#: A trial whose worker died more often than this is not repeated: the trial itself may be what kills the worker.
MAX_RETRIES = 2
#: Key of the advisory lock in a PostgreSQL database: the letters "perturbe" in ASCII.
_LOCK_KEY = 0x7065727475726265
_HEARTBEAT = "heartbeat"


@contextmanager
def _allow_experimental() -> Iterator[None]:
    """Silence Optuna's warning that its heartbeats are experimental; also a decorator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


@_allow_experimental()
def retry(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queue a trial again whose worker died or was interrupted, up to ``MAX_RETRIES`` times.

    Parameters
    ----------
    study
        The study of the trial.
    trial
        A copy of the trial. It is modified: the attributes of its dead worker are removed.
    """
    trial.user_attrs.pop("worker", None)
    trial.system_attrs.pop(_HEARTBEAT, None)
    RetryHeartbeatStaleTrialCallback(MAX_RETRIES)(study, trial)


@_allow_experimental()
def retried_trials(trial: FrozenTrial) -> list[int]:
    """Return the numbers of the failed trials that this trial repeats."""
    return RetryHeartbeatStaleTrialCallback.retry_history(trial)


@_allow_experimental()
def fail_stale_trials(study: optuna.Study) -> None:
    """Fail the running trials without a recent heartbeat, and retry them."""
    optuna.storages.fail_stale_trials(study)


class JournalFile(JournalStorage, BaseHeartbeat):
    """A journal file with heartbeats, which are written into the journal.

    Parameters
    ----------
    path
        The file.
    heartbeat
        Seconds between two heartbeats. A trial without one for twice as long is stale.
    """

    def __init__(self, path: str | Path, heartbeat: int) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        # The operating system releases this lock when a worker is killed; Optuna's lock would block others for 30 s.
        lock: Any = FileLock(f"{path}.lock")
        super().__init__(JournalFileBackend(str(path), lock_obj=lock))
        self._heartbeat = heartbeat

    def record_heartbeat(self, trial_id: int) -> None:
        """Write the time into the journal; do nothing if the trial was already marked as failed."""
        with suppress(UpdateFinishedTrialError):
            self.set_trial_system_attr(trial_id, _HEARTBEAT, time.time())

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        oldest = time.time() - 2 * self._heartbeat
        running = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
        return [trial._trial_id for trial in running if trial.system_attrs.get(_HEARTBEAT, oldest) < oldest]

    def get_heartbeat_interval(self) -> int:
        """Return the seconds between two heartbeats."""
        return self._heartbeat

    def get_heartbeat_stale_trial_callback(self) -> Callable[[optuna.Study, FrozenTrial], None]:
        """Return the function that Optuna calls with a stale trial."""
        return retry


@contextmanager
def set_up_storage(address: str, heartbeat: int = 60) -> Iterator[JournalFile | RDBStorage]:
    """Open the storage at ``journal:<file>`` or ``postgresql://...``, and lock it for setting up a study.

    Workers that start at the same time enter the block one after another; the lock is released if one dies. Create the
    study and queue its first trial inside the block, and run the trials after it.

    Parameters
    ----------
    address
        Address of the storage. Leave the password out; libpq reads it from ``PGPASSWORD`` or ``~/.pgpass``.
    heartbeat
        Seconds between two heartbeats. A worker without a heartbeat for twice as long counts as dead.

    Raises
    ------
    PerturbenchError
        If the driver of PostgreSQL is missing, or the database cannot be used.
    """
    if not address.startswith("journal:"):
        with _set_up_database(address, heartbeat) as database:
            yield database
        return
    path = address.removeprefix("journal:")
    journal = JournalFile(path, heartbeat)
    with FileLock(f"{path}.setup"):
        yield journal


@contextmanager
def _set_up_database(address: str, heartbeat: int) -> Iterator[RDBStorage]:
    if find_spec("psycopg") is None:
        raise PerturbenchError(f"hpo.storage '{address}' needs psycopg: pip install 'perturbench[postgres]'")
    import sqlalchemy

    url = address.replace("postgresql://", "postgresql+psycopg://", 1)
    # No connection pool: the server may close a connection that is idle during a long training.
    unpooled = {"poolclass": sqlalchemy.NullPool}
    try:
        with sqlalchemy.create_engine(url, **unpooled).begin() as connection:
            connection.execute(sqlalchemy.text(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})"))
            with _allow_experimental():
                storage = RDBStorage(url, unpooled, heartbeat_interval=heartbeat, heartbeat_stale_trial_callback=retry)
            yield storage
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise PerturbenchError(
            f"the database of hpo.storage '{address}' cannot be used: {str(error).splitlines()[0]} Check its address, "
            "that it exists, and the password in PGPASSWORD or ~/.pgpass."
        ) from error
