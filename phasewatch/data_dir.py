"""The files of an embedded deployment, and who may run on them."""

from __future__ import annotations

import fcntl
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from phasewatch.errors import ServiceAwayError, UsageError
from phasewatch.settings import Settings
from processors.adapters.sqlite.log import SqliteLog
from processors.adapters.sqlite.store import SqliteStore


def now_ms() -> int:
    """Return the time now, UTC milliseconds: the clock of everything that runs for real."""
    return time.time_ns() // 1_000_000


def log_file(settings: Settings) -> Path:
    """Return the path of the log."""
    return settings.store.data_dir / "log.sqlite"


def store_file(settings: Settings) -> Path:
    """Return the path of the states."""
    return settings.store.data_dir / "states.sqlite"


def spool_dir(settings: Settings) -> Path:
    """Return the folder of the spool."""
    return settings.store.data_dir / "spool" if settings.spool.dir is None else settings.spool.dir


def open_log(settings: Settings) -> SqliteLog:
    """Open the log, creating directory and file where missing."""
    _make_data_dir(settings)
    log = SqliteLog(log_file(settings), partitions=settings.log.partitions, log_id=uuid.uuid4().hex, clock=now_ms)
    if log.partitions != settings.log.partitions:
        log.close()
        msg = (
            f"log.partitions is {settings.log.partitions}, but the log in {settings.store.data_dir} was created with "
            f"{log.partitions}, and a person's place depends on it: set log.partitions = {log.partitions}"
        )
        raise UsageError(msg)
    return log


def _make_data_dir(settings: Settings) -> None:
    data_dir = settings.store.data_dir
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"the data directory {data_dir} can't be made ({error.strerror}); name another one with --data-dir"
        raise UsageError(msg) from error


def open_store(settings: Settings) -> SqliteStore:
    """Open the state store; its directory exists."""
    return SqliteStore(store_file(settings))


def require_data(settings: Settings) -> None:
    """Raise ServiceAwayError where there is no log yet: a command that only reads creates none."""
    if not log_file(settings).exists():
        msg = (
            f"there is no log in {settings.store.data_dir}: nothing has run there yet. Start `phasewatch up`, "
            "or name the right directory with --data-dir"
        )
        raise ServiceAwayError(msg)


@contextmanager
def worker_lock(settings: Settings) -> Iterator[bool]:
    """Try to become the one process that folds this log; yield whether that succeeded, and give it up at the end."""
    _make_data_dir(settings)
    with (settings.store.data_dir / "worker.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
