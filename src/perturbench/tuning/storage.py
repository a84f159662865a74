"""Where studies are kept: a journal file for the workers of one machine, PostgreSQL for those of many."""

from __future__ import annotations

import os
import socket
import uuid
import warnings
from abc import ABC, abstractmethod
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import optuna
from filelock import FileLock, Timeout
from optuna.exceptions import ExperimentalWarning
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from perturbench.errors import PerturbenchError
from perturbench.tuning.retries import queue_again

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from optuna.trial import FrozenTrial

#: Key of the lock that workers take in turn in a PostgreSQL database; any number that nothing else there uses.
_TURN_KEY = 0x7065727475726265


class SharedStorage(ABC):
    """A storage whose workers take turns, and know which running trials nobody works on any more.

    Attributes
    ----------
    storage
        Optuna's.
    worker
        The name that this process signs its trials with: machine, process and something unique.
    """

    storage: optuna.storages.BaseStorage

    def __init__(self) -> None:
        self.worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Leave: this worker runs no trial any more."""

    @abstractmethod
    def turn(self) -> AbstractContextManager[object]:
        """Hold what only one worker at a time holds; a killed worker does not."""

    def sign(self, trial: optuna.Trial) -> None:
        """Say who runs a trial; before the turn in which it was taken ends."""
        trial.set_user_attr("worker", self.worker)

    def recover(self, study: optuna.Study) -> None:
        """Fail the running trials whose worker died, and queue them again; in one's turn."""
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if self._is_lost(trial):
                study.tell(trial.number, state=TrialState.FAIL)
                queue_again(study, trial)

    def _is_lost(self, trial: FrozenTrial) -> bool:
        # Its worker died in the turn in which it took the trial.
        return "worker" not in trial.user_attrs


class JournalFile(SharedStorage):
    """A journal file. Each worker holds a lock on a file of its own, which the system releases when it dies."""

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        path = Path(path)
        self._workers = path.with_name(f"{path.name}.workers")
        self._workers.mkdir(parents=True, exist_ok=True)
        self._turn = FileLock(self._workers / "turn")
        self._alive = FileLock(self._workers / self.worker)
        self._alive.acquire()
        # Optuna's own lock outlives a killed worker by half a minute.
        lock: Any = FileLock(self._workers / "write")
        self.storage = optuna.storages.JournalStorage(JournalFileBackend(str(path), lock_obj=lock))

    def close(self) -> None:
        """Unlock and remove the worker's file."""
        self._alive.release()
        (self._workers / self.worker).unlink(missing_ok=True)

    def turn(self) -> AbstractContextManager[object]:
        """Lock a file beside the journal."""
        return self._turn

    def _is_lost(self, trial: FrozenTrial) -> bool:
        if super()._is_lost(trial):
            return True
        worker = self._workers / trial.user_attrs["worker"]
        try:
            with FileLock(worker, timeout=0):
                worker.unlink()
        except Timeout:
            return False
        return True


class PostgreSQL(SharedStorage):
    """A PostgreSQL database. A worker that gives no sign of life for two heartbeats is taken for dead.

    Parameters
    ----------
    url
        ``postgresql://user@host:port/database``; the password comes from libpq's ``PGPASSWORD`` or ``~/.pgpass``.
    heartbeat
        Seconds between signs of life.

    Raises
    ------
    PerturbenchError
        Without the driver, or if the database cannot be reached.
    """

    def __init__(self, url: str, heartbeat: int) -> None:
        super().__init__()
        if find_spec("psycopg") is None:
            raise PerturbenchError(f"hpo.storage '{url}' needs psycopg: pip install 'perturbench[postgres]'")
        import sqlalchemy

        address = url.replace("postgresql://", "postgresql+psycopg://", 1)
        self._engine = sqlalchemy.create_engine(address, poolclass=sqlalchemy.NullPool)
        self._lock = sqlalchemy.text(f"SELECT pg_advisory_xact_lock({_TURN_KEY})")
        try:
            with self.turn(), warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                self.storage = self._database = optuna.storages.RDBStorage(
                    address,
                    engine_kwargs={"pool_pre_ping": True},
                    heartbeat_interval=heartbeat,
                    grace_period=2 * heartbeat,
                    heartbeat_stale_trial_callback=queue_again,
                )
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise PerturbenchError(
                f"the database of hpo.storage '{url}' cannot be used: {str(error).splitlines()[0]} Check its address, "
                "that it exists, and the password in PGPASSWORD or ~/.pgpass."
            ) from error

    def close(self) -> None:
        """End the connections."""
        self._database.remove_session()
        self._database.engine.dispose()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Lock a number in the database; the end of the connection, too, frees it."""
        with self._engine.begin() as connection:
            connection.execute(self._lock)
            yield

    def sign(self, trial: optuna.Trial) -> None:
        """Give the first sign of life too: without one, a trial is never missed."""
        self._database.record_heartbeat(trial._trial_id)
        super().sign(trial)

    def recover(self, study: optuna.Study) -> None:
        """Fail and queue again what is overdue as well."""
        super().recover(study)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            optuna.storages.fail_stale_trials(study)


def open_storage(address: str, heartbeat: int = 60) -> SharedStorage:
    """Return the storage at ``journal:<file>`` or ``postgresql://...``.

    Parameters
    ----------
    address
        Of the storage.
    heartbeat
        Seconds between signs of life, see :class:`PostgreSQL`.
    """
    if address.startswith("journal:"):
        return JournalFile(address.removeprefix("journal:"))
    return PostgreSQL(address, heartbeat)
