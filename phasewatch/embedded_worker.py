"""The worker of an embedded deployment: every partition of one log, in a thread of its own."""

from __future__ import annotations

import asyncio
import json
from importlib.resources import files
from threading import Event, Thread
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from collector.wire.record import Draft, Kind
from phasewatch.data_dir import now_ms, open_log, open_store
from phasewatch.settings import Settings
from processors.adapters.sqlite.log import SqliteLog
from processors.adapters.sqlite.store import SqliteStore
from processors.domain.rules import DAY_MS
from processors.engine.metrics import WorkerMetrics
from processors.engine.ports import EventLog, FencedError, LogMismatchError, StoreUnavailableError
from processors.engine.query import Query
from processors.engine.worker import PartitionWorker, WorkerOptions

_WAIT_SECONDS: Final = 0.5
"""How long a worker with nothing to do waits for news before it looks at its timers."""
_RETRY_SECONDS: Final = 1.0
_CLEAN_EVERY_MS: Final = 3_600_000
"""How often records past their retention are looked for."""

_logger = structlog.get_logger(__name__)


def shipped_definitions() -> str:
    """Return the definitions of the demo's fund shop, as shipped."""
    return (files("processors") / "definitions" / "fund-shop.toml").read_text(encoding="utf-8")


class EmbeddedWorker:
    """Folds a log until it is told to stop; `why_not_ready` says what is wrong when it does not."""

    def __init__(self, settings: Settings, registry: CollectorRegistry) -> None:
        self._settings = settings
        self._metrics = WorkerMetrics(registry)
        self._stop = Event()
        self._thread = Thread(target=self._run, name="worker", daemon=True)
        self.why_not_ready: str | None = "the worker has not yet taken over its partitions"
        self.failure: Exception | None = None

    def start(self) -> None:
        """Start folding."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch under way, then stop."""
        self._stop.set()
        if self.running:
            self._thread.join()

    @property
    def running(self) -> bool:
        """Whether it still folds."""
        return self._thread.is_alive()

    def _run(self) -> None:
        log, store = open_log(self._settings), open_store(self._settings)
        try:
            asyncio.run(self._work(log, store))
        except LogMismatchError as error:
            self._fail(error)
        except Exception as error:  # a bug or a broken file: whoever watches `failure` stops the process with it
            _logger.exception("worker_stopped")
            self._fail(error)
        finally:
            store.close()
            log.close()

    def _fail(self, error: Exception) -> None:
        self.failure = error
        self.why_not_ready = f"the worker has stopped: {error}"

    async def _work(self, log: SqliteLog, store: SqliteStore) -> None:
        while not self._stop.is_set():
            try:
                workers = await acquire_all(log, store, self._settings, self._metrics)
                self.why_not_ready = None
                await self._fold(log, workers)
            except (FencedError, StoreUnavailableError) as error:
                self.why_not_ready = str(error)
                _logger.warning("worker_retries", reason=str(error))
                self._stop.wait(_RETRY_SECONDS)

    async def _fold(self, log: SqliteLog, workers: list[PartitionWorker]) -> None:
        cleaned = 0
        while not self._stop.is_set():
            if now_ms() - cleaned > _CLEAN_EVERY_MS:
                cleaned = now_ms()
                keep = self._settings.log.retention_days * DAY_MS
                await log.forget_before(cleaned - keep, [one.position.offset for one in workers])
            await log.news(0)
            folded = 0
            for one in workers:
                folded += await one.step()
            if folded:
                continue
            ticked = any([await one.tick() for one in workers])
            self.why_not_ready = next((one.tick_failed for one in workers if one.tick_failed), None)
            if not ticked:
                await log.news(_WAIT_SECONDS)


async def acquire_all(
    log: SqliteLog, store: SqliteStore, settings: Settings, metrics: WorkerMetrics | None = None
) -> list[PartitionWorker]:
    """Take over every partition of a log.

    Raises:
        LogMismatchError: if the states belong to another log.
    """
    await store.bind(log.log_id, log.partitions)
    options = WorkerOptions(
        deployment=settings.deployment.name,
        batch_records=settings.worker.batch_records,
        tick_interval_ms=settings.worker.tick_interval_seconds * 1000,
        tick_settle_ms=settings.worker.tick_settle_ms,
    )
    metrics = metrics or WorkerMetrics(CollectorRegistry())
    workers = [
        PartitionWorker(partition, log=log, store=store, publisher=log, clock=now_ms, metrics=metrics, options=options)
        for partition in range(log.partitions)
    ]
    for one in workers:
        await one.acquire()
    return workers


async def ensure_definitions(log: EventLog, document: str | None = None) -> None:
    """Put definitions into force where the log is empty: `document`, or the shipped ones.

    They stand at the beginning of every partition, as what is folded without any counts for nothing, and before all
    time, so that history can still be imported after them. Partition 0 comes last: it says that all are there.
    """
    if (await log.bounds(0))[1] == 0:
        body = {"number": 1, "toml": document or shipped_definitions()}
        first = Draft(Kind.DEFINITIONS, 0, json.dumps(body, ensure_ascii=False).encode())
        await log.append([(partition, first) for partition in range(1, log.partitions)])
        await log.append([(0, first)])


async def publish_definitions(log: EventLog, document: str, *, clock: int) -> None:
    """Hand a definitions document in at partition 0, whose fold numbers it and fans it out, at `clock` (UTC ms)."""
    value = json.dumps({"definitions": document}, ensure_ascii=False).encode()
    await log.append([(0, Draft(Kind.PUBLISH, clock, value))])


async def in_force_everywhere(query: Query, partitions: int) -> int:
    """Return the lowest number of a definitions document in force over all partitions; 0 where none is."""
    states = [await query.state(partition) for partition in range(partitions)]
    return min(0 if state is None else state.definitions for state in states)
