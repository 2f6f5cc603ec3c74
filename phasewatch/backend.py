"""Where a deployment's log and states are: Kafka and Redis where the settings name a Kafka, else files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from collector.wire.record import Draft
from phasewatch.access import kafka_access, tls_context
from phasewatch.data_dir import open_log, open_store, require_data, worker_lock
from phasewatch.embedded_worker import acquire_all
from phasewatch.errors import FaultError, ServiceAwayError, UsageError
from phasewatch.settings import Settings
from processors.adapters.kafka.changes import KafkaChanges
from processors.adapters.kafka.log import KafkaLog
from processors.adapters.kafka.publisher import KafkaPublisher
from processors.adapters.redis.store import RedisStore
from processors.engine.outputs import EVENTS
from processors.engine.ports import EventLog, LogMismatchError, StateStore, StoreUnavailableError
from processors.engine.query import ChangeReader, Query
from processors.engine.worker import PartitionWorker, settle

__all__ = [
    "Backend",
    "HistoryLog",
    "events_topic",
    "group_of",
    "open_backend",
    "open_changes",
    "open_kafka_log",
    "open_publisher",
    "open_redis_store",
    "require_kafka",
    "wait_for_fold",
]

_WORKERS: Final = "worker"
_POLL_SECONDS: Final = 0.01
PATIENCE_SECONDS: Final = 60.0
"""How long nothing may go on before a wait is given up: a takeover after a crash takes seconds."""


class HistoryLog(Protocol):
    """Where an import writes, and how far it has come."""

    @property
    def partitions(self) -> int:
        """The number of partitions."""
        ...

    async def append(self, drafts: Sequence[tuple[int, Draft]], notes: Mapping[str, str] | None = None) -> None:
        """Append records durably, then remember `notes`."""
        ...

    async def note(self, name: str) -> str | None:
        """Return what was noted under a name."""
        ...


@dataclass(frozen=True, slots=True)
class Backend:
    """A deployment's log and states, for commands that look at them or write history."""

    log: EventLog
    store: StateStore
    query: Query
    changes: ChangeReader
    history: HistoryLog
    workers: Sequence[PartitionWorker] | None = None
    """This process's own where no other one folds; None where others do."""

    async def settle(self) -> None:
        """Return when everything in the log is folded, what follows from it too, and published.

        Raises:
            ServiceAwayError: if others have to fold it, and none does.
        """
        if self.workers is None:
            await wait_for_fold(self.log, self.store, self.query)
        else:
            await settle(self.workers)


@asynccontextmanager
async def open_backend(settings: Settings, *, write: bool = False) -> AsyncIterator[Backend]:
    """Open what the settings name, for as long as it is needed.

    Args:
        settings: of the deployment.
        write: whether the caller appends to the log: files that are not there are created then (Kafka's topics never
            are), and where no process folds an embedded log, `settle` does.

    Raises:
        ServiceAwayError: if something does not answer, or nothing has run there yet.
        FaultError: if the states belong to another log.
    """
    try:
        if settings.kafka.brokers:
            async with _production(settings) as backend:
                yield backend
        else:
            if not write:
                require_data(settings)
            async with _embedded(settings, fold=write) as backend:
                yield backend
    except StoreUnavailableError as error:
        raise ServiceAwayError(str(error)) from error
    except LogMismatchError as error:
        raise FaultError(str(error)) from error


@asynccontextmanager
async def _embedded(settings: Settings, *, fold: bool) -> AsyncIterator[Backend]:
    log, store = open_log(settings), open_store(settings)
    try:
        with worker_lock(settings) if fold else nullcontext(enter_result=False) as alone:
            workers = await acquire_all(log, store, settings) if alone else None
            yield Backend(log, store, Query(store, log.partitions), log, log, workers)
    finally:
        store.close()
        log.close()


@asynccontextmanager
async def _production(settings: Settings) -> AsyncIterator[Backend]:
    store, changes = open_redis_store(settings), open_changes(settings)
    try:
        log = await open_kafka_log(settings)
        try:
            await store.bind(log.log_id, log.partitions)
            yield Backend(log, store, Query(store, log.partitions), changes, _KafkaHistory(log, store))
        finally:
            await log.close()
    finally:
        await changes.close()
        await store.close()


class _KafkaHistory:
    """History goes to Kafka, how far it came to Redis: an hour whose note is lost is written twice, and folded once."""

    def __init__(self, log: KafkaLog, store: RedisStore) -> None:
        self._log, self._store = log, store
        self.partitions = log.partitions

    async def append(self, drafts: Sequence[tuple[int, Draft]], notes: Mapping[str, str] | None = None) -> None:
        await self._log.append(drafts)
        for name, value in (notes or {}).items():
            await self._store.set_note(name, value)

    async def note(self, name: str) -> str | None:
        return await self._store.note(name)


def require_kafka(settings: Settings, what: str) -> None:
    """Raise UsageError, naming the setting, where no Kafka is set."""
    if not settings.kafka.brokers:
        msg = (
            f"phasewatch {what} works on Kafka, and kafka.brokers is not set. Name its addresses in the settings file "
            "or in PHASEWATCH_KAFKA__BROKERS=host:9092; without a Kafka, `phasewatch up` does it all in one process"
        )
        raise UsageError(msg)


def events_topic(settings: Settings) -> str:
    """Return the name of topic `events`."""
    return settings.kafka.topic_prefix + EVENTS


def group_of(settings: Settings) -> str:
    """Return the name of the workers' consumer group: `phasewatch-worker` with the default prefix (contract)."""
    return f"{settings.kafka.topic_prefix.removesuffix('.')}-{_WORKERS}"


async def open_kafka_log(settings: Settings) -> KafkaLog:
    """Connect to the log.

    Raises:
        StoreUnavailableError: if Kafka can't be reached, or has no such topic.
    """
    return await KafkaLog.open(kafka_access(settings), settings.kafka.topic_prefix)


def open_changes(settings: Settings) -> KafkaChanges:
    """Return a reader of topic `stage-changes`; it connects when it is first used."""
    return KafkaChanges(kafka_access(settings), settings.kafka.topic_prefix)


def open_publisher(settings: Settings) -> KafkaPublisher:
    """Return the way out for a worker's outputs; it connects when it is first used."""
    return KafkaPublisher(kafka_access(settings), settings.kafka.topic_prefix)


def open_redis_store(settings: Settings) -> RedisStore:
    """Return the state store; it connects when it is first used."""
    redis = settings.redis
    return RedisStore.open(
        redis.url,
        username=redis.username,
        password=redis.password.get_secret_value(),
        sentinels=redis.sentinels,
        sentinel_service=redis.sentinel_service,
        tls=tls_context("redis", redis) if redis.url.startswith("rediss:") else None,
        prefix=redis.prefix,
    )


async def wait_for_fold(
    log: EventLog, store: StateStore, query: Query, *, patience_seconds: float = PATIENCE_SECONDS
) -> None:
    """Wait until other processes have folded everything in the log, and what that derived, and published it all.

    Raises:
        ServiceAwayError: if nothing goes on for so long: no worker is there.
    """
    loop = asyncio.get_running_loop()
    ends: list[int] = []
    seen: list[_Progress] = []
    since = loop.time()
    while True:
        before, ends = ends, [end for _, end in await log.all_bounds()]
        found = list(await asyncio.gather(*(_progress(n, store, query) for n in range(len(ends)))))
        if ends == before and all(one.offset >= end and one.quiet for one, end in zip(found, ends, strict=True)):
            return
        if found != seen:
            seen, since = found, loop.time()
        elif loop.time() - since > patience_seconds:
            behind = sum(max(0, end - one.offset) for one, end in zip(found, ends, strict=True))
            msg = (
                f"{behind} records wait, and nothing was folded for {patience_seconds:g} s: is a worker running? Start "
                "`phasewatch worker` (or look at its /readyz), then repeat this command"
            )
            raise ServiceAwayError(msg)
        await asyncio.sleep(_POLL_SECONDS)


class _Progress(NamedTuple):
    offset: int
    cursor: int
    quiet: bool
    """Whether nothing waits to be published."""


async def _progress(partition: int, store: StateStore, query: Query) -> _Progress:
    state = await query.state(partition)
    offset, cursor = (0, 0) if state is None else state.position
    return _Progress(offset, cursor, not await store.outbox(partition, 1))
