"""The Faust app of a worker: what it uses of Faust, and every private hook of it, in one place.

Faust gives the app, group membership and the consumer in a thread of its own. Its streams are not used: agents
acknowledge in `finally` and so lose a failed batch, seeks in its signals are overwritten by Recovery, and its own
committed offsets are not the truth here, the store's position is (architecture, section 6). What is overridden, and why
(read and measured with faust-streaming 0.15.3, which is pinned for that reason):

- `App._new_transport`: how a consumer class of one's own gets in.
- `Consumer.perform_seek`: the one place that every assignment passes through, after all others have sought (signals
  come before it and are overwritten). Here runners are started, which seek by themselves.
- `Consumer.on_partitions_revoked`: runners stop before the partitions are given up.
- `Consumer._drain_messages`, `_getmany`: records are handed to runners in lists, without a stream between. It is the
  only place that moves positions, between two fetches, so that no fetch under way can follow a seek.
- `Consumer.force_commit`: commits where the runners are, for lag tools only; never while rebalancing (it would make
  aiokafka join again), and never crashing.
- `Consumer._new_consumer_thread`, `_create_worker_consumer`, `_fetch_max_wait_ms`: fetches that wait 50 ms, not 1.5 s.
- `ConsumerThread._fetch_records`, `_fetcher`, `_records`, `_create_fetch_waiter`, `_closed`: each partition's records
  are taken by themselves. aiokafka takes all of them at once, and where one partition's can't be unpacked (a codec that
  is not installed, a damaged batch) it raises, and loses what it had taken of the others.
- `ConsumerThread.on_thread_stop`: aiokafka waits for a fetch that it has cancelled and lets that be its own end; with
  all brokers away the thread died of it, and Faust waited for it for a minute.
- `Consumer.verify_event_path`: a watchdog over streams that there are not.
- `_thread`, `_ensure_consumer`, `_coordinator._group_instance_id`: a static member that leaves for good has to say so,
  which aiokafka leaves out for static members.
- `TableManager.on_start`: Faust waits a second there for tables that there are not, before it joins the group.
- `App._create_directories`: nothing is kept in files.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import faust
import faust.transport.drivers.aiokafka as driver
import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import ConsumerStoppedError, IllegalStateError, KafkaError
from aiokafka.structs import ConsumerRecord
from faust.tables.manager import TableManager
from faust.types import TP
from faust.types.transports import TPorTopicSet
from mode.types import ServiceT

from collector.wire.kafka_access import KafkaAccess
from processors.adapters.kafka.records import record_of
from processors.engine.ports import FencedError
from processors.engine.runner import PartitionRunner

SESSION_SECONDS: Final = 6.0
"""The broker's default minimum: how long a dead worker's partitions wait for it."""
HEARTBEAT_SECONDS: Final = 1.0
REBALANCE_SECONDS: Final = 10.0
REQUEST_SECONDS: Final = 30.0
LEAVE_SECONDS: Final = 5.0
"""How long leaving the group may take: with no broker there is nobody to tell."""
COMMIT_SECONDS: Final = 2.0
"""How far the group's offsets may lag behind the store's (contract: seconds)."""
FETCH_SECONDS: Final = 0.1
"""How long one fetch waits: what a partition that wants records again, or a seek, may have to wait for."""
FETCH_WAIT_MS: Final = 50
"""How long a broker may hold a fetch back for data. aiokafka has one fetch under way per broker, without the partitions
whose records were just taken: their next ones wait for it."""
FETCH_BYTES: Final = 1024 * 1024
MAX_POLL_RECORDS: Final = 2000
MAX_POLL_SECONDS: Final = 315_360_000.0
"""Ten years: aiokafka lets a consumer that does not fetch for so long leave the group, and join again only once it
fetches. A worker that waits for Redis, or has no partition to spare, does not fetch, and has to stay."""

_logger = structlog.get_logger("processors.adapters.faust")


@dataclass(slots=True)
class _SeekRequest:
    runner: PartitionRunner
    offset: int
    done: asyncio.Future[None]

    def succeed(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def fail(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(FencedError(why))


_Fetched = dict[TP, list[ConsumerRecord[bytes, bytes]]]
_Faults = deque[tuple[TP, Exception]]
"""What could not be read, from the thread that fetches to the one that folds."""


class _Thread(driver.AIOKafkaConsumerThread):
    """The consumer's thread, whose fetches do not wait for long, and in which no partition's fault is another's."""

    def __init__(self, *args: Any, faults: _Faults, **kwargs: Any) -> None:  # noqa: ANN401 - Faust's, passed on
        super().__init__(*args, **kwargs)
        self._faults = faults

    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001 - Faust has 1,500 written into its source
        return consumer

    async def on_thread_stop(self) -> None:
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await super().on_thread_stop()
        except (asyncio.CancelledError, TimeoutError) as error:
            _logger.warning("group_not_left", reason=repr(error), meaning="its session has to run out first")

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109 - Faust's signature
        max_records: int | None = None,
    ) -> _Fetched:
        if not self.consumer.flow_active:
            return {}
        fetcher = consumer._fetcher  # noqa: SLF001 - see the module's text, and below
        if consumer._closed or fetcher._closed:  # noqa: SLF001
            raise ConsumerStoppedError
        with fetcher._subscriptions.fetch_context():  # noqa: SLF001
            found = await self._take(fetcher, active_partitions, max_records or MAX_POLL_RECORDS)
            if found or self._faults:
                return found
            waiter = fetcher._create_fetch_waiter()  # noqa: SLF001
            done, _ = await asyncio.wait([waiter], timeout=timeout)
            if not done or fetcher._closed:  # noqa: SLF001
                waiter.cancel()
                return {}
            waiter.result()  # raises what concerns the whole group, such as a lack of rights
            return await self._take(fetcher, active_partitions, max_records or MAX_POLL_RECORDS)

    async def _take(self, fetcher: Any, partitions: set[TP], most: int) -> _Fetched:  # noqa: ANN401 - aiokafka's, private
        """Return what was fetched of each partition, at most `most` records together."""
        found: _Fetched = {}
        for tp in [tp for tp in fetcher._records if tp in partitions]:  # noqa: SLF001 - see the module's text
            if most <= 0:
                break
            try:
                records = (await fetcher.fetched_records([tp], max_records=most)).get(tp, [])
            except Exception as error:  # noqa: BLE001 - not swallowed: the partition's runner tells of it
                self._faults.append((TP(tp.topic, tp.partition), error))
                continue
            if records:
                most -= len(records)
                found[TP(tp.topic, tp.partition)] = records
        return found


class _Consumer(driver.Consumer):
    """Starts and stops runners with the assignment, and feeds them."""

    app: WorkerApp

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Faust's, passed on
        self._faults: _Faults = deque()
        super().__init__(*args, **kwargs)
        self.runners: dict[TP, PartitionRunner] = {}
        self._stops = 0
        self._stopping_runners = asyncio.Lock()
        self._seeks: deque[_SeekRequest] = deque()
        self._left_at: dict[TP, int] = {}

    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return _Thread(self, faults=self._faults, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        stops = self._stops
        await self.stop_runners()
        if self._stops != stops + 1:  # revoked meanwhile: the next assignment comes through here, too
            return
        for tp in self.assignment():
            if tp.topic == self.app.events_topic:
                self.runners[tp] = runner = self.app.make_runner(tp.partition)
                runner.start()
        _logger.info("partitions_assigned", partitions=sorted(tp.partition for tp in self.runners))

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await self.stop_runners()
        await super().on_partitions_revoked(revoked)

    async def stop_runners(self) -> None:
        self._stops += 1
        async with self._stopping_runners:  # no partition gets a new runner while its old one still stops
            runners, self.runners = self.runners, {}
            self._left_at = _positions(runners)
            await asyncio.gather(*(runner.stop() for runner in runners.values()))

    async def seek_runner(self, runner: PartitionRunner, offset: int) -> None:
        """Return once the next fetch for a runner's partition begins at `offset`."""
        request = _SeekRequest(runner, offset, asyncio.get_running_loop().create_future())
        self._seeks.append(request)
        await request.done

    async def _drain_messages(self, fetcher: ServiceT) -> None:
        while not (self.should_stop or fetcher.should_stop):
            if not self.flow_active:
                await asyncio.sleep(FETCH_SECONDS / 5)
                continue
            await self._seek_all()
            wanting = {tp for tp, runner in self.runners.items() if runner.wants}
            if not wanting:  # an empty set would mean all of them to aiokafka
                await asyncio.sleep(FETCH_SECONDS / 5)
                continue
            fetched = await self._getmany(wanting, FETCH_SECONDS)
            for tp, records in fetched.items():
                runner = self.runners.get(TP(tp.topic, tp.partition))
                if runner is not None:
                    runner.feed([record_of(one) for one in records])
            self._tell_faults()

    def _tell_faults(self) -> None:
        while self._faults:
            tp, error = self._faults.popleft()
            if tp in self.runners:
                self.runners[tp].doubt(_unreadable(tp, self.runners[tp].position, error))

    async def _seek_all(self) -> None:
        while self._seeks:
            request = self._seeks.popleft()
            tp = TP(self.app.events_topic, request.runner.partition)
            if request.done.done() or self.runners.get(tp) is not request.runner:
                continue
            try:
                await self.seek_wait({driver.ensure_aiokafka_TP(tp): request.offset})
            except (KafkaError, TimeoutError) as error:
                request.fail(f"partition {tp.partition} of the log can't be read from {request.offset} on: {error!r}")
            else:
                request.succeed()

    async def force_commit(
        self,
        topics: TPorTopicSet | None = None,  # noqa: ARG002 - Faust's signature
        start_new_transaction: bool = True,  # noqa: ARG002, FBT001, FBT002 - as above
    ) -> bool:
        if self.app.rebalancing:
            return False
        positions = _positions(self.runners) or self._left_at
        assigned = self.assignment()
        offsets = {driver.ensure_aiokafka_TP(tp): offset for tp, offset in positions.items() if tp in assigned}
        if not offsets:
            return False
        try:
            async with asyncio.timeout(COMMIT_SECONDS):
                await self._thread.call_thread(self._thread._ensure_consumer().commit, offsets)  # noqa: SLF001
        except (KafkaError, TimeoutError) as error:
            _logger.debug("group_offsets_not_committed", reason=repr(error))
            return False
        return True

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Watch nothing: the streams that this would watch are not used."""

    def highwater_of(self, partition: int) -> int | None:
        try:
            found: int | None = self.highwater(driver.ensure_aiokafka_TP(TP(self.app.events_topic, partition)))
        except IllegalStateError:  # not assigned any more
            return None
        return found

    def leave_for_good(self) -> None:
        if self._thread._consumer is not None:  # noqa: SLF001
            self._thread._consumer._coordinator._group_instance_id = None  # noqa: SLF001

    async def on_stop(self) -> None:
        await self.stop_runners()
        await super().on_stop()


def _unreadable(tp: TP, position: int | None, error: Exception) -> str:
    return (
        f"partition {tp.partition} of topic {tp.topic} can't be read at offset {position} or soon after: {error!r}. "
        "Nothing is skipped or lost. Where it was compressed with another codec than gzip, see that the topic has "
        "compression.type=producer and that only Phasewatch writes there; where it is damaged, make another copy of "
        "the partition its leader"
    )


def _positions(runners: Mapping[TP, PartitionRunner]) -> dict[TP, int]:
    found = {tp: runner.position for tp, runner in runners.items()}
    return {tp: position for tp, position in found.items() if position is not None}


class _Transport(driver.Transport):
    Consumer = _Consumer


class _Tables(TableManager):
    """No tables, so that nothing is waited for."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


def _credentials(kafka: KafkaAccess) -> faust.auth.Credentials | None:
    if kafka.login is not None:
        login = kafka.login
        return faust.SASLCredentials(
            mechanism=login.mechanism, username=login.username, password=login.password, ssl_context=kafka.tls
        )
    return None if kafka.tls is None else faust.SSLCredentials(kafka.tls)


class WorkerApp(faust.App):
    """One member of the group; `make_runner` is called for every partition that it is assigned."""

    def __init__(
        self,
        group: str,
        *,
        kafka: KafkaAccess,
        events_topic: str,
        name: str,
        make_runner: Callable[[int], PartitionRunner],
    ) -> None:
        super().__init__(
            group,
            broker=[f"kafka://{broker}" for broker in kafka.brokers.split(",")],
            broker_credentials=_credentials(kafka),
            store="memory://",
            autodiscover=False,
            web_enabled=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            table_standby_replicas=0,
            TableManager=_Tables,
            stream_wait_empty=False,
            consumer_group_instance_id=name,
            consumer_auto_offset_reset="earliest",
            consumer_max_fetch_size=FETCH_BYTES,
            broker_client_id=f"{group}-{name}",
            broker_session_timeout=SESSION_SECONDS,
            broker_heartbeat_interval=HEARTBEAT_SECONDS,
            broker_rebalance_timeout=REBALANCE_SECONDS,
            broker_request_timeout=REQUEST_SECONDS,
            broker_commit_interval=COMMIT_SECONDS,
            broker_max_poll_records=MAX_POLL_RECORDS,
            broker_max_poll_interval=MAX_POLL_SECONDS,
        )
        self.events_topic = events_topic
        self.make_runner = make_runner

    @property
    def runners(self) -> list[PartitionRunner]:
        """Those of the partitions that are assigned now."""
        return list(self._group_consumer.runners.values()) if self._consumer is not None else []

    @property
    def failure(self) -> BaseException | None:
        """Why the app has given up, or None."""
        return self.crash_reason if self.crashed else None

    def behind(self, runner: PartitionRunner) -> int:
        """Return how many records of a runner's partition are not yet folded, as far as the last fetch has told."""
        end = self._group_consumer.highwater_of(runner.partition)
        return 0 if end is None or runner.position is None else max(0, end - runner.position)

    async def seek(self, runner: PartitionRunner, offset: int) -> None:
        """Return once the next records fed to a runner begin at `offset`."""
        await self._group_consumer.seek_runner(runner, offset)

    def leave_for_good(self) -> None:
        """Say on the way out that this member does not come back, so that others take over at once."""
        if self._consumer is not None:
            self._group_consumer.leave_for_good()

    @property
    def _group_consumer(self) -> _Consumer:
        consumer = self.consumer
        if not isinstance(consumer, _Consumer):
            msg = f"Faust made a {type(consumer)}"
            raise TypeError(msg)
        return consumer

    async def on_start(self) -> None:
        """Subscribe to topic `events`, with no agent to do so."""
        await super().on_start()
        self.topics.add(self.topic(self.events_topic, internal=False))

    def _create_directories(self) -> None:
        """Keep nothing in files."""

    def _new_transport(self) -> Any:  # noqa: ANN401 - Faust's interface type is looser than the class
        return _Transport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> Any:  # noqa: ANN401
        return _Transport(self.conf.broker_producer, self)
