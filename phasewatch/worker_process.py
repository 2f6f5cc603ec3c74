"""`phasewatch worker`: folds the partitions that the group assigns it, over Kafka and Redis."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import secrets
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import structlog
import uvloop
from prometheus_client import CollectorRegistry

from collector.admin import AdminApp, NotReady
from phasewatch.access import kafka_access
from phasewatch.backend import events_topic, group_of, open_kafka_log, open_publisher, open_redis_store, require_kafka
from phasewatch.data_dir import now_ms
from phasewatch.errors import FaultError
from phasewatch.serving import Servers
from phasewatch.settings import Settings
from processors.adapters.faust.app import WorkerApp
from processors.adapters.files.snapshots import NOTE as SNAPSHOT
from processors.adapters.kafka.log import KafkaLog
from processors.adapters.kafka.publisher import KafkaPublisher
from processors.adapters.kafka.topic_ids import identify_topic
from processors.adapters.redis.store import RedisStore
from processors.engine.metrics import RedisMetrics, WorkerMetrics
from processors.engine.ports import LogMismatchError, StoreUnavailableError
from processors.engine.runner import PartitionRunner
from processors.engine.worker import PartitionWorker, WorkerOptions, log_lacks

__all__ = ["run_worker"]

ADMIN_PORT: Final = 8620
_WATCH_SECONDS: Final = 1.0
_HEALTH_EVERY: Final = 30
"""Watches between two looks at the Redis's own settings."""
_LOG_EVERY: Final = 5
"""Watches between two questions to the log."""
_ANSWER_SECONDS: Final = 3.0
_RETRY_SECONDS: Final = 2.0
_TICK_CALM_MS: Final = 30_000
"""How long after an outage of Kafka nobody leaves a stage for being silent: a collector finds out within 5 s that Kafka
is back, and then sends of its spool to every partition many times a second (collector/sinks/spool_drain.py)."""
_SLOTS: Final = 1024
_GC_THRESHOLD: Final = (100_000, 20, 20)
"""States are made and dropped by the thousand a second, and reference counts free them; looking for cycles among them
at Python's usual pace took 5 of 16 µs an event (bench/worker.py, busy)."""

_logger = structlog.get_logger(__name__)


def run_worker(settings: Settings) -> int:
    """Run until a signal comes; return the exit code.

    Raises:
        UsageError: if no Kafka is set, or the admin port is taken.
        FaultError: if the worker can't go on; whoever supervises it should start it again.
    """
    require_kafka(settings, "worker")
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLD)
    with worker_name(settings) as name, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_Worker(settings, name).run())
    return 0


@contextmanager
def worker_name(settings: Settings) -> Iterator[str]:
    """Yield the name under which this process is a member of the group, held as long as it runs."""
    if settings.worker.name:
        yield settings.worker.name
        return
    for slot in range(_SLOTS):
        path = Path(tempfile.gettempdir()) / f"{group_of(settings)}-{os.getuid()}-{slot}.lock"
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield f"{socket.gethostname()}-{slot}"
            return
    msg = f"{_SLOTS} workers run on this host already: give each a worker.name of its own"
    raise FaultError(msg)


def _started_at(note: str) -> int:
    return int(note.partition(":")[0])


class _Worker:
    """One worker process."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings, self._name = settings, name
        self._kafka = kafka_access(settings)
        self._started = f"{now_ms()}:{secrets.token_hex(8)}"
        """Which process this is, and when it started: the later one keeps the name."""
        self._registry = CollectorRegistry()
        self._metrics, self._redis = WorkerMetrics(self._registry), RedisMetrics(self._registry)
        self._stop = asyncio.Event()
        self._servers = Servers()
        self._app: WorkerApp | None = None
        self._why_not_ready: dict[str, str | None] = {"log": "not yet connected", "store": "not yet asked"}

    async def run(self) -> None:
        """Serve the admin port, connect, fold until told to stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        admin = self._settings.admin
        parts: dict[str, NotReady] = {
            "log": partial(self._not_ready, "log"),
            "store": partial(self._not_ready, "store"),
            "partitions": self._partitions_not_ready,
        }
        port = ADMIN_PORT if admin.port is None else admin.port
        address = await self._servers.serve(AdminApp(self._registry, parts), admin.host, port)
        _logger.info("worker_starts", name=self._name, admin=address)
        store = open_redis_store(self._settings)
        try:
            log = await self._connect(store)
            if log is not None:
                await self._fold(log, store)
        finally:
            await store.close()
            await self._servers.stop()
            _logger.info("worker_stopped", name=self._name)

    async def _not_ready(self, part: str) -> str | None:
        return self._why_not_ready[part]

    async def _partitions_not_ready(self) -> str | None:
        runners = [] if self._app is None else self._app.runners
        if not runners:
            return "no partition is assigned"
        waiting = {runner.partition: runner.why_not_ready for runner in runners if runner.why_not_ready}
        return "; ".join(f"{partition}: {why}" for partition, why in sorted(waiting.items())) or None

    async def _connect(self, store: RedisStore) -> KafkaLog | None:
        """Return the log once it and the store are there and belong together; None if told to stop before."""
        while not self._stop.is_set():
            try:
                self._why_not_ready["log"] = None
                log = await open_kafka_log(self._settings)
            except StoreUnavailableError as error:
                await self._wait_for("log", error)
                continue
            try:
                self._why_not_ready["store"] = None
                await store.bind(log.log_id, log.partitions)
                await store.set_note(f"worker:{self._name}", self._started)
            except StoreUnavailableError as error:
                await log.close()
                await self._wait_for("store", error)
                continue
            except LogMismatchError as error:
                await log.close()
                raise FaultError(str(error)) from error
            return log
        return None

    async def _wait_for(self, part: str, error: StoreUnavailableError) -> None:
        self._why_not_ready[part] = str(error)
        _logger.warning("worker_waits", reason=str(error), seconds=_RETRY_SECONDS)
        try:
            async with asyncio.timeout(_RETRY_SECONDS):
                await self._stop.wait()
        except TimeoutError:
            return

    async def _fold(self, log: KafkaLog, store: RedisStore) -> None:
        publisher = open_publisher(self._settings)
        self._metrics.partitions.set(log.partitions)
        self._app = app = WorkerApp(
            group_of(self._settings),
            kafka=self._kafka,
            events_topic=events_topic(self._settings),
            name=self._name,
            make_runner=lambda partition: self._runner(partition, log, store, publisher),
        )
        try:
            starting = asyncio.create_task(app.start())
            stopping = asyncio.create_task(self._stop.wait())
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if starting.done():
                await starting
                await self._watch(app, log, store)
            else:  # told to stop while Kafka does not answer
                starting.cancel()
        finally:
            if self._settings.worker.leave_on_stop:
                app.leave_for_good()
            await app.stop()
            await publisher.close()
            await log.close()

    def _runner(self, partition: int, log: KafkaLog, store: RedisStore, publisher: KafkaPublisher) -> PartitionRunner:
        worker = self._settings.worker
        options = WorkerOptions(
            deployment=self._settings.deployment.name,
            tick_interval_ms=worker.tick_interval_seconds * 1000,
            tick_settle_ms=worker.tick_settle_ms,
            tick_calm_ms=_TICK_CALM_MS,
        )

        async def acquire() -> PartitionWorker:
            await publisher.begin(partition)
            found = PartitionWorker(
                partition,
                log=log,
                store=store,
                publisher=publisher,
                clock=now_ms,
                metrics=self._metrics,
                options=options,
            )
            await found.acquire()
            return found

        async def seek(offset: int) -> None:
            if self._app is not None:
                await self._app.seek(runner, offset)

        runner = PartitionRunner(
            partition,
            acquire=acquire,
            release=lambda: publisher.end(partition),
            seek=seek,
            batch_records=worker.batch_records,
            metrics=self._metrics,
        )
        return runner

    async def _watch(self, app: WorkerApp, log: KafkaLog, store: RedisStore) -> None:
        """Keep the gauges current until told to stop.

        Raises:
            FaultError: if Faust has given up, for instance since another worker has taken this one's name.
        """
        looks = 0
        while not self._stop.is_set():
            if app.failure is not None:
                msg = f"the group's consumer has stopped: {app.failure}"
                raise FaultError(msg) from app.failure
            if looks % _LOG_EVERY == 0:
                await self._ask(app, log)
                await self._check_name(store)
            if looks % _HEALTH_EVERY == 0 or self._why_not_ready["store"] is not None:
                await self._look_at(store)
            looks += 1
            self._observe(app)
            try:
                async with asyncio.timeout(_WATCH_SECONDS):
                    await self._stop.wait()
            except TimeoutError:
                continue

    async def _ask(self, app: WorkerApp, log: KafkaLog) -> None:
        """Ask the log for its bounds: partitions that nothing happens in would not notice that it is away, or was cut.

        Raises:
            FaultError: if the topic was made anew: a worker that starts finds out what the states belong to.
        """
        positions = {runner: runner.position for runner in app.runners}  # before, so that the end is never behind them
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                bounds = await log.all_bounds()
                await self._check_log(log)
        except StoreUnavailableError as error:
            self._why_not_ready["log"] = str(error)
        except TimeoutError:
            self._why_not_ready["log"] = f"Kafka has not answered for {_ANSWER_SECONDS:g} s"
        else:
            self._why_not_ready["log"] = None
            for runner, position in positions.items():
                if position is not None and (why := log_lacks(runner.partition, position, *bounds[runner.partition])):
                    runner.doubt(why)

    async def _check_log(self, log: KafkaLog) -> None:
        now = await identify_topic(self._kafka, events_topic(self._settings))
        if now.topic_id != log.log_id:
            msg = (
                f"topic {events_topic(self._settings)} was made anew: it is {now.topic_id} now, and was {log.log_id}. "
                "This worker stops, since its states belong to the old one. Bring that back, or restore states that "
                "match; for a deployment that begins anew take another kafka.topic_prefix and redis.prefix"
            )
            raise FaultError(msg)

    async def _check_name(self, store: RedisStore) -> None:
        """Raise FaultError where another worker has started under this one's name: they would put each other out."""
        try:
            found = await store.note(f"worker:{self._name}")
            if found is None or _started_at(found) < _started_at(self._started):  # Redis has lost its last second
                await store.set_note(f"worker:{self._name}", self._started)
                return
        except StoreUnavailableError:  # whoever commits notices, and says so
            return
        if found != self._started:
            msg = (
                f"another worker has started under the name {self._name}; this one stops, as Kafka lets only one of a "
                "name in. Give each worker a worker.name of its own, or leave it empty"
            )
            raise FaultError(msg)

    async def _look_at(self, store: RedisStore) -> None:
        try:
            health = await store.health()
            taken_at = await store.note(SNAPSHOT)
        except StoreUnavailableError as error:
            self._why_not_ready["store"] = str(error)
            self._redis.observe(persistent=None, may_evict=None, used_bytes=None, limit_bytes=None)
            return
        self._why_not_ready["store"] = None
        self._redis.observe(
            persistent=health.persistent,
            may_evict=health.may_evict,
            used_bytes=health.used_memory_bytes,
            limit_bytes=health.maxmemory_bytes,
        )
        self._redis.observe_snapshot(None if taken_at is None else int(taken_at))
        for fault in health.faults():
            _logger.warning("redis_endangers_states", fault=fault)

    def _observe(self, app: WorkerApp) -> None:
        now, runners = now_ms(), app.runners
        owned = [(runner, runner.worker) for runner in runners if runner.worker is not None]
        self._metrics.partitions_owned.set(len(owned))
        self._metrics.partitions_waiting.set(len(runners) - len(owned))
        behind = {runner.partition: app.behind(runner) for runner, _ in owned}
        self._metrics.watch(behind)
        lags = [now - worker.last_folded for runner, worker in owned if behind[runner.partition] and worker.last_folded]
        self._metrics.behind_seconds.set(max(lags, default=0) / 1000)
        self._metrics.overdue_seconds.set(max((worker.overdue_ms for _, worker in owned), default=0) / 1000)
        since = [runner.outbox_since for runner in runners if runner.outbox_since is not None]
        self._metrics.outbox_seconds.set(asyncio.get_running_loop().time() - min(since) if since else 0)
