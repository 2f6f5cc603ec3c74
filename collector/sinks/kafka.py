"""Kafka as a sink: an idempotent producer, acknowledgements of all in-sync copies, one round of batches at a time.

What waits when a round begins goes out together: a partition's blocks share batches, all partitions are sent at once,
and a partition's next batch only after its last one was acknowledged. Hence order per partition is the order of the
calls, also between writes.

A producer lives as long as everything it was given is acknowledged. The first batch that is refused or late ends it:
its sequence numbers are used up, so that later batches would be out of sequence, and aiokafka would go on to send the
late one for ever. The next write makes a new producer by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from collector.sinks.kafka_topics import FOUND, MAX_BATCH_BYTES, UnfitTopicError, check_topics, metadata_request
from collector.sinks.port import ANY_PARTITION, Failed, SinkUnavailableError, event_row, rejected_row
from collector.wire.kafka_access import KafkaAccess, explained
from collector.wire.log_file import EVENTS, REJECTED, Row
from collector.wire.partition import partition_of
from collector.wire.record import Draft

_log = structlog.get_logger(__name__)

DELIVERY_SECONDS: Final = 10.0
"""How long a write may take, a new connection included; SDKs give a request up after about as much."""
PROBE_SECONDS: Final = 2.0
"""A broker that takes longer to say something is as good as none to who asks for readiness."""

Lane = tuple[str, int]
"""A topic and one of its partitions."""


@dataclass(slots=True)
class _Item:
    """One record to be."""

    row: Row
    topic: str
    partition: int

    @property
    def lane(self) -> Lane:
        """Where it goes; the partition is final once its round has begun."""
        return self.topic, self.partition


@dataclass(slots=True)
class _Write:
    """What one caller waits for."""

    items: list[_Item]
    failed: Failed
    done: asyncio.Future[None]

    def hand_back(self, failures: dict[Lane, Exception]) -> None:
        """Hand back what failed, and keep the rest."""
        back = [item for item in self.items if item.lane in failures]
        if back and not self.done.done():  # else the caller was cancelled meanwhile
            self.items = [item for item in self.items if item.lane not in failures]
            self.failed([item.row for item in back], failures[back[0].lane])

    def finish(self) -> None:
        """Tell the caller that nothing waits any more."""
        if not self.done.done():
            self.done.set_result(None)


@dataclass(slots=True)
class _Health:
    """What writes have shown."""

    began: float | None = None
    """When the round under way began, by the event loop's clock."""
    failed: float | None = None
    """When the latest round failed, None once another one did not."""
    reason: str = ""


class KafkaSink:
    """Writes topics `events` and `rejected`; used from one event loop.

    It connects at the first write, or when asked whether it is ready; `open` connects at once. How much waits is
    bounded by who calls: the collector's ingest by `queue_bytes`.

    Args:
        kafka: where it is and how it is reached.
        topic_prefix: begin of the topics' names.
        partitions: of topic `events`; another number there is an error.
        delivery_seconds: how long a write may take; then it has failed.
    """

    def __init__(
        self, kafka: KafkaAccess, *, topic_prefix: str, partitions: int, delivery_seconds: float = DELIVERY_SECONDS
    ) -> None:
        self._kafka = kafka
        self._events = topic_prefix + EVENTS
        self._rejected = topic_prefix + REJECTED
        self._partitions = partitions
        self._delivery_seconds = delivery_seconds
        self._min_insync = 1
        self._producer: AIOKafkaProducer | None = None
        self._connecting = asyncio.Lock()
        self._waiting: list[_Write] = []
        self._rounds: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._health = _Health()
        self._closed = False

    @classmethod
    async def open(
        cls, kafka: KafkaAccess, *, topic_prefix: str, partitions: int, delivery_seconds: float = DELIVERY_SECONDS
    ) -> Self:
        """Connect and look at the topics; arguments as of the class.

        Raises:
            SinkUnavailableError: if Kafka does not answer within `delivery_seconds`.
            UnfitTopicError: if a topic is missing or its settings do not keep the guarantees.
        """
        sink = cls(kafka, topic_prefix=topic_prefix, partitions=partitions, delivery_seconds=delivery_seconds)
        try:
            async with asyncio.timeout(delivery_seconds):
                await sink._connected()
        except BaseException as error:
            await sink.close()
            if isinstance(error, KafkaError | OSError | TimeoutError):
                raise sink._unavailable(error) from error
            raise
        return sink

    @property
    def partitions(self) -> int:
        """The number of partitions of topic `events`."""
        return self._partitions

    async def write(self, blocks: Sequence[tuple[int, Draft]]) -> None:
        """Append (partition, block) pairs in order; returns when all in-sync copies have them.

        Raises:
            SinkUnavailableError: if that was not achieved in time; a part may be durable all the same.
        """
        await self._write([event_row(place, draft) for place, draft in blocks])

    async def write_rejected(self, rejected: Sequence[tuple[str, bytes]]) -> None:
        """Append (write key's name, JSON) pairs to topic `rejected`; raises as `write`."""
        await self._write([rejected_row(name, value) for name, value in rejected])

    async def _write(self, rows: Sequence[Row]) -> None:
        errors: list[Exception] = []
        await self.send(rows, lambda _, error: errors.append(error))
        if errors:
            raise errors[0]

    def send(self, rows: Sequence[Row], failed: Failed) -> asyncio.Future[None]:
        """Take over rows at once, behind all that were taken before; the future is done when nothing waits any more.

        Args:
            rows: of the topics of `collector.wire.log_file`, without the prefix.
            failed: called with the rows that were not acknowledged and why, before anything later is sent; so whoever
                keeps them keeps their order. It must not raise.

        Raises:
            SinkUnavailableError: if the sink is closed.
        """
        if self._closed:
            msg = "the connection to Kafka is closed: the process is stopping"
            raise SinkUnavailableError(msg)
        loop = asyncio.get_running_loop()
        names = {EVENTS: self._events, REJECTED: self._rejected}
        write = _Write([_Item(row, names[row.topic], row.partition) for row in rows], failed, loop.create_future())
        self._waiting.append(write)
        if self._rounds is None:
            self._rounds = loop.create_task(self._run())
        return write.done

    # Rounds

    async def _run(self) -> None:
        """Send what waits, round by round, until nothing does."""
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                writes, self._waiting = self._waiting, []
                self._health.began = loop.time()
                deadline = loop.time() + self._delivery_seconds
                failures = await self._round(writes, deadline)
                if failures:
                    self._hand_back(writes, failures)
                self._note(failures)
                for write in writes:
                    write.finish()
        finally:
            self._rounds = None

    def _hand_back(self, writes: Sequence[_Write], failures: dict[Lane, Exception]) -> None:
        """Hand back what failed, and what waits behind it: it may not overtake, and would wait in vain."""
        if self._producer is None:  # there is no connection, and nobody else would get one
            error = next(iter(failures.values()))
            failures = dict.fromkeys(_lanes(self._waiting), error) | failures
        for write in writes:
            write.hand_back(failures)
        for write in self._waiting:
            write.hand_back(failures)
            if not write.items:
                write.finish()
        self._waiting = [write for write in self._waiting if write.items]

    async def _round(self, writes: Sequence[_Write], deadline: float) -> dict[Lane, Exception]:
        """Send everything and return what failed, by topic and partition."""
        failed: dict[Lane, Exception] = {}
        acknowledged: set[Lane] = set()
        error: Exception | None = None
        try:
            async with asyncio.timeout_at(deadline):
                producer = await self._connected()
            batches = self._batches(producer, writes)
            while batches:
                failed |= await _wave(producer, batches, acknowledged, deadline)
        except UnfitTopicError as found:
            error = SinkUnavailableError(str(found))
        except (KafkaError, OSError, TimeoutError) as found:
            error = self._unavailable(found)
        except Exception as found:  # noqa: BLE001 - not swallowed: raised again in the tasks that wait for it
            error = found
        failures: dict[Lane, Exception] = {lane: self._unavailable(one) for lane, one in failed.items()}
        if error is not None:
            failures |= dict.fromkeys(_lanes(writes) - acknowledged - failures.keys(), error)
        return failures

    def _note(self, failures: dict[Lane, Exception]) -> None:
        """Remember how a round went; after a failure another producer is needed."""
        health = self._health
        health.began = None
        if not failures:
            health.failed = None
            return
        health.failed = asyncio.get_running_loop().time()
        health.reason = str(next(iter(failures.values())))
        _log.warning("kafka_write_failed", partitions=len(failures), reason=health.reason)
        if self._producer is not None:
            self._end(self._producer)
            self._producer = None

    def _batches(self, producer: AIOKafkaProducer, writes: Iterable[_Write]) -> dict[Lane, list[Any]]:
        """Return each partition's batches, in order."""
        places = len(producer.client.cluster.partitions_for_topic(self._rejected) or {0})
        batches: dict[Lane, list[Any]] = {}
        for write in writes:
            for item in write.items:
                if item.partition == ANY_PARTITION:
                    item.partition = partition_of((item.row.key or b"").decode(), places)
                lane = batches.setdefault(item.lane, [])
                if not lane or not _add(lane[-1], item):
                    lane.append(producer.create_batch())
                    _add(lane[-1], item)
        return batches

    def _unavailable(self, error: Exception) -> SinkUnavailableError:
        if isinstance(error, TimeoutError):
            return SinkUnavailableError(
                f"Kafka at {self._kafka} has not acknowledged everything within {self._delivery_seconds:g} s: it may "
                "be stored or not, sending it again is harmless; see whether its brokers run and have enough copies "
                "in sync"
            )
        return SinkUnavailableError(
            f"Kafka at {self._kafka} cannot be written ({error}): nothing was stored as far as is known; see whether "
            "its brokers run, and `phasewatch topics --check`"
        )

    # The producer

    async def _connected(self) -> AIOKafkaProducer:
        """Return the producer, a new one if there is none; raises KafkaError, OSError, UnfitTopicError."""
        async with self._connecting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **self._kafka.options,
                    client_id="phasewatch-collector",
                    acks="all",
                    enable_idempotence=True,
                    max_batch_size=MAX_BATCH_BYTES,
                    # A broker that stands still is given up in time to try the one that took over.
                    request_timeout_ms=max(1, int(self._delivery_seconds * 500)),
                )
                try:
                    async with explained(self._kafka):
                        await producer.start()
                    self._min_insync = await check_topics(
                        producer.client, self._events, self._rejected, self.partitions
                    )
                except BaseException:
                    self._end(producer)
                    raise
                self._producer = producer
            return self._producer

    def _end(self, producer: AIOKafkaProducer) -> None:
        task = asyncio.get_running_loop().create_task(_give_up(producer, self._delivery_seconds))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    # Readiness

    async def not_ready(self) -> str | None:
        """Return why nothing can be made durable right now, or None.

        Asks every broker that leads a partition, on the connection that writes use, for leaders and copies in sync.
        """
        if self._closed:
            return "the connection to Kafka is closed: the process is stopping"
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return await self._probe() or self._troubled()
        except UnfitTopicError as error:
            return str(error)
        except (KafkaError, OSError, TimeoutError) as error:
            why = str(error) or f"not within {PROBE_SECONDS:g} s"
            return f"Kafka at {self._kafka} does not answer ({why}); see whether its brokers run"

    def _troubled(self) -> str | None:
        """Return what writes have met lately, which asking for metadata would not show."""
        now = asyncio.get_running_loop().time()
        health = self._health
        if health.began is not None and now - health.began > PROBE_SECONDS:
            return f"a write to Kafka has been under way for {now - health.began:.0f} s"
        if health.failed is not None and now - health.failed < self._delivery_seconds:
            return f"the latest write failed {now - health.failed:.0f} s ago: {health.reason}"
        return None

    async def _probe(self) -> str | None:
        client = (await self._connected()).client
        if not await client.force_metadata_update():
            return f"no broker of Kafka at {self._kafka} answers and is in service; see whether they run"
        topics = [self._events, self._rejected]
        lanes = [
            TopicPartition(topic, place)
            for topic in topics
            for place in client.cluster.partitions_for_topic(topic) or ()
        ]
        leaders = {client.cluster.leader_for_partition(lane) for lane in lanes} - {None, -1}
        answers = await asyncio.gather(*(client.send(node, metadata_request(topics)) for node in leaders))
        found = answers[0].to_object()["topics"] if answers else []
        return self._lacking(found) or self._uneven(found)

    def _lacking(self, found: Sequence[dict[str, Any]]) -> str | None:
        there = {topic["topic"] for topic in found if topic["error_code"] == FOUND}
        missing = [name for name in (self._events, self._rejected) if name not in there]
        return f"Kafka has no topic {' nor '.join(missing)}; run `phasewatch topics`" if missing else None

    def _uneven(self, found: Sequence[dict[str, Any]]) -> str | None:
        lanes = [(topic["topic"], one) for topic in found for one in topic["partitions"]]
        leaderless = [f"{topic}-{one['partition']}" for topic, one in lanes if one["leader"] < 0]
        if leaderless:
            return f"without a leader: {_some(leaderless)}; see which brokers are down"
        few = [f"{topic}-{one['partition']}" for topic, one in lanes if len(one["isr"]) < self._min_insync]
        if few:
            return f"fewer than {self._min_insync} copies in sync: {_some(few)}; see which brokers are down"
        return None

    async def abandon(self) -> None:
        """Close without waiting for what is under way, whose futures are never done."""
        if self._rounds is not None:
            self._rounds.cancel()
            await asyncio.wait([self._rounds])
        self._waiting = []
        await self.close()

    async def close(self) -> None:
        """Finish what was accepted, then close the connections; takes at most about twice `delivery_seconds`."""
        self._closed = True
        if self._rounds is not None:
            await self._rounds
        async with self._connecting:
            if self._producer is not None:
                self._end(self._producer)
                self._producer = None
        if self._ending:
            await asyncio.wait(self._ending)


async def _wave(
    producer: AIOKafkaProducer, batches: dict[Lane, list[Any]], acknowledged: set[Lane], deadline: float
) -> dict[Lane, Exception]:
    """Send the first batch of each partition, and wait for all; take out what is done with.

    Returns:
        What failed; nothing more of such a partition is sent.
    """
    sent: dict[Lane, asyncio.Future[Any]] = {}
    try:
        async with asyncio.timeout_at(deadline):
            for lane, waiting in batches.items():
                sent[lane] = await producer.send_batch(waiting.pop(0), lane[0], partition=lane[1])
    except BaseException:
        for future in sent.values():
            future.cancel()  # as below
        raise
    await asyncio.wait(sent.values(), timeout=deadline - asyncio.get_running_loop().time())
    failures: dict[Lane, Exception] = {}
    for lane, future in sent.items():
        if not future.done():
            future.cancel()  # shields the batch's own future, whose error nobody would fetch
            failures[lane] = TimeoutError()
        elif isinstance(error := future.exception(), Exception):
            failures[lane] = error
        elif not batches[lane]:
            acknowledged.add(lane)
        if lane in failures or not batches[lane]:
            del batches[lane]
    return failures


def _add(batch: Any, item: _Item) -> bool:  # noqa: ANN401 - aiokafka's BatchBuilder, which has no public name
    """Append a record; return False where it no longer fits."""
    row = item.row
    return batch.append(timestamp=None, key=row.key, value=row.value, headers=list(row.headers)) is not None


def _lanes(writes: Iterable[_Write]) -> set[Lane]:
    return {item.lane for write in writes for item in write.items}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")  # noqa: PLR2004 - to name


async def _give_up(producer: AIOKafkaProducer, seconds: float) -> None:
    """End a producer with whatever it holds: `stop` would wait until all of it is acknowledged.

    aiokafka has no public way to give up a batch. Requests under way end by their own timeout, since a request that is
    cut off would ask for metadata from a client that no longer asks; what is not ended after `seconds` is cut off.
    """
    sending = producer._sender.sender_task  # noqa: SLF001 - see above
    if sending is not None:
        sending.cancel()
        await asyncio.wait([sending], timeout=seconds)
    await producer.client.close()
    if sending is not None:
        sending.cancel()
        await asyncio.wait([sending], timeout=seconds)
        if sending.done() and not sending.cancelled() and (error := sending.exception()):
            _log.warning("kafka_producer_ended", reason=repr(error))
    producer._closed = True  # noqa: SLF001 - what `stop` would note; else it warns of being left open
