"""What every sink must do. Another backend joins by one more parameter of the fixture `opened`."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from prometheus_client import CollectorRegistry

from collector.metrics import SpoolMetrics
from collector.sinks.kafka import KafkaSink
from collector.sinks.kafka_topics import MAX_BATCH_BYTES, UnfitTopicError
from collector.sinks.port import Sink, SinkUnavailableError
from collector.sinks.spool import Spool, SpoolLimits
from collector.sinks.spool_sink import SpoolingSink
from collector.sinks.sqlite import SqliteSink
from collector.wire.kafka_access import KafkaAccess
from collector.wire.log_file import decode_headers
from collector.wire.record import Draft, Kind, Record, read_headers
from deploy.local.services import KafkaBroker
from processors.adapters.kafka.topics import Topic, TopicAdmin, topics
from tests.services import running

NOW = 1_700_000_000_000
"""Long ago, so that a real log's append time is later and record time is the clock."""
PARTITIONS = 4


@dataclass
class Opened:
    """A sink, and ways to look at what it made durable that do not go through it.

    `records` reads topic events, `rejected` the (key, value) pairs of topic rejected, `block` makes the backend
    unavailable and returns what makes it available again, `reopen` opens the same log once more.
    """

    sink: Sink
    records: Callable[[], Awaitable[list[Record]]]
    rejected: Callable[[], Awaitable[list[tuple[str, bytes]]]]
    block: Callable[[], Callable[[], None]]
    reopen: Callable[[], Awaitable[Sink]]


def _sqlite(directory: Path) -> Opened:
    path = directory / "log.db"

    def open_sink(partitions: int = PARTITIONS) -> SqliteSink:
        return SqliteSink.open(path, partitions=partitions, log_id="contract", clock=lambda: NOW)

    def rows(topic: str) -> list[tuple[int, int, int, bytes | None, str, bytes]]:
        connection = sqlite3.connect(path)
        try:
            return connection.execute(
                'SELECT "partition", "offset", append_time, key, headers, value FROM records'
                " WHERE topic = ? ORDER BY id",
                (topic,),
            ).fetchall()
        finally:
            connection.close()

    async def records() -> list[Record]:
        return [
            Record(partition, offset, time, read_headers(decode_headers(headers), value))
            for partition, offset, time, _, headers, value in rows("events")
        ]

    async def rejected() -> list[tuple[str, bytes]]:
        return [((key or b"").decode(), value) for _, _, _, key, _, value in rows("rejected")]

    def block() -> Callable[[], None]:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")

        def free() -> None:
            connection.execute("ROLLBACK")
            connection.close()

        return free

    async def reopen() -> Sink:
        return open_sink(PARTITIONS * 2)

    return Opened(open_sink(), records, rejected, block, reopen)


def few_topics(prefix: str) -> list[Topic]:
    """Return the topics that a sink writes."""
    wanted = topics(prefix=prefix, partitions=PARTITIONS, retention_days=1, replication_factor=1, min_insync_replicas=1)
    return [topic for topic in wanted if topic.name.removeprefix(prefix) in {"events", "rejected"}]


async def read_topic(address: str, topic: str, partitions: int) -> list[ConsumerRecord[bytes, bytes]]:
    """Return what a plain consumer finds, partition by partition."""
    async with AIOKafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest") as consumer:
        places = [TopicPartition(topic, place) for place in range(partitions)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        found: list[ConsumerRecord[bytes, bytes]] = []
        while any([await consumer.position(place) < ends[place] for place in places]):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                found += batch
    return sorted(found, key=lambda one: (one.partition, one.offset))


async def _kafka(broker: KafkaBroker) -> Opened:
    prefix = f"test-{uuid.uuid4().hex}."
    async with TopicAdmin(KafkaAccess(broker.address)) as admin:
        await admin.create(few_topics(prefix))

    async def open_sink() -> Sink:
        # Three seconds, where production takes ten: a broker answers within a hundredth of it on an idle machine.
        return await KafkaSink.open(
            KafkaAccess(broker.address), topic_prefix=prefix, partitions=PARTITIONS, delivery_seconds=3
        )

    async def records() -> list[Record]:
        return [
            Record(one.partition, one.offset, one.timestamp, read_headers(list(one.headers), one.value or b""))
            for one in await read_topic(broker.address, f"{prefix}events", PARTITIONS)
        ]

    async def rejected() -> list[tuple[str, bytes]]:
        found = await read_topic(broker.address, f"{prefix}rejected", 1)
        return [((one.key or b"").decode(), one.value or b"") for one in found]

    def block() -> Callable[[], None]:
        broker.pause()
        return broker.resume

    return Opened(await open_sink(), records, rejected, block, open_sink)


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A Kafka that these tests may pause."""
    with running(KafkaBroker(tmp_path_factory.mktemp("kafka"))) as broker:
        yield broker


async def _spooling(broker: KafkaBroker, directory: Path) -> Opened:
    """Kafka with a spool: it is unavailable where Kafka is away and the spool cannot be written."""
    kafka = await _kafka(broker)

    async def over(sink: Sink) -> SpoolingSink:
        assert isinstance(sink, KafkaSink)
        draining = await kafka.reopen()
        assert isinstance(draining, KafkaSink)
        limits = SpoolLimits(100_000_000, 0)
        spool = Spool(directory / "spool", limits, lambda: NOW, SpoolMetrics(CollectorRegistry()))
        return SpoolingSink(spool, sink, draining, drain_bytes_per_second=10_000_000)

    def block() -> Callable[[], None]:
        resume = kafka.block()
        (directory / "spool").rename(directory / "away")
        (directory / "spool").write_text("no folder")

        def free() -> None:
            (directory / "spool").unlink()
            (directory / "away").rename(directory / "spool")
            resume()

        return free

    async def reopen() -> Sink:
        return await over(await kafka.reopen())

    return Opened(await over(kafka.sink), kafka.records, kafka.rejected, block, reopen)


@pytest.fixture(params=["sqlite", *(pytest.param(name, marks=pytest.mark.services) for name in ("kafka", "spooling"))])
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opened]:
    if request.param == "sqlite":
        one = _sqlite(tmp_path)
    else:
        broker = request.getfixturevalue("own_broker")
        one = await _kafka(broker) if request.param == "kafka" else await _spooling(broker, tmp_path)
    yield one
    await one.sink.close()


def draft(value: bytes, clock: int = NOW, **more: object) -> Draft:
    return Draft(kind=Kind.EVENTS, clock=clock, value=value, count=1, **more)  # type: ignore[arg-type]


async def test_what_was_written_is_there_when_write_returns(opened: Opened) -> None:
    await opened.sink.write([(1, draft(b"a\n")), (3, draft(b"b\n", NOW - 5, imported=True)), (1, draft(b"c\n"))])
    found = sorted(await opened.records(), key=lambda one: (one.partition, one.offset))
    assert [(one.partition, one.offset, one.draft.value) for one in found] == [
        (1, 0, b"a\n"),
        (1, 1, b"c\n"),
        (3, 0, b"b\n"),
    ]
    assert [(one.draft.clock, one.draft.imported, one.time) for one in found] == [
        (NOW, False, NOW),
        (NOW, False, NOW),
        (NOW - 5, True, NOW - 5),
    ]


async def test_many_writers_at_once_lose_nothing_and_keep_their_order(opened: Opened) -> None:
    async def writer(name: int) -> None:
        for at in range(20):
            await opened.sink.write([(name % PARTITIONS, draft(b"%d-%d\n" % (name, at)))])

    await asyncio.gather(*(writer(name) for name in range(12)))
    records = await opened.records()
    assert len(records) == 240
    for name in range(12):
        own = [one.draft.value for one in records if one.draft.value.startswith(b"%d-" % name)]
        assert own == [b"%d-%d\n" % (name, at) for at in range(20)]
    for partition in range(PARTITIONS):
        assert [one.offset for one in records if one.partition == partition] == list(range(60))


async def test_rejected_events_go_to_their_topic(opened: Opened) -> None:
    await opened.sink.write_rejected([("web", b'{"reason":"malformed"}')])
    assert await opened.rejected() == [("web", b'{"reason":"malformed"}')]
    assert await opened.records() == []


@pytest.mark.usefixtures("logged_errors")  # aiokafka logs one for each broker that does not answer
async def test_an_unavailable_backend_says_so_and_recovers(opened: Opened) -> None:
    assert await opened.sink.not_ready() is None
    free = opened.block()
    with pytest.raises(SinkUnavailableError):
        await opened.sink.write([(0, draft(b"a\n"))])
    assert await opened.sink.not_ready()
    free()
    async with asyncio.timeout(30):
        while await opened.sink.not_ready():  # noqa: ASYNC110 - a broker that stood still has to report back first
            await asyncio.sleep(0.05)
    await opened.sink.write([(0, draft(b"b\n"))])
    assert await opened.sink.not_ready() is None
    # A part of what failed may be durable all the same: a broker that stood still reads on where it was.
    assert [one.draft.value for one in await opened.records() if one.draft.value != b"a\n"] == [b"b\n"]


async def test_a_writer_that_is_cancelled_harms_nobody(opened: Opened) -> None:
    task = asyncio.create_task(opened.sink.write([(0, draft(b"a\n"))]))
    await asyncio.sleep(0)
    task.cancel()
    await opened.sink.write([(0, draft(b"b\n"))])
    assert (await opened.records())[-1].draft.value == b"b\n"


async def test_closing_finishes_what_was_accepted(opened: Opened) -> None:
    tasks = [asyncio.create_task(opened.sink.write([(0, draft(b"%d\n" % at))])) for at in range(50)]
    await asyncio.sleep(0)
    await opened.sink.close()
    await asyncio.gather(*tasks)
    assert len(await opened.records()) == 50
    with pytest.raises(SinkUnavailableError):
        await opened.sink.write([(0, draft(b"late\n"))])
    assert await opened.sink.not_ready()


async def test_the_number_of_partitions_is_the_logs_own(opened: Opened) -> None:
    await opened.sink.write([(0, draft(b"a\n"))])
    again = await opened.reopen()
    assert again.partitions == PARTITIONS
    await again.write([(0, draft(b"b\n"))])
    assert [one.offset for one in await opened.records()] == [0, 1]
    await again.close()


def test_a_file_that_is_no_log_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    path.write_bytes(b"no database at all, but long enough to be read as a header" * 20)
    with pytest.raises(SinkUnavailableError):
        SqliteSink.open(path, partitions=1, log_id="x", clock=lambda: NOW)


@pytest.mark.services
async def test_blocks_of_a_partition_share_batches_and_keep_their_order_beyond_one(own_broker: KafkaBroker) -> None:
    opened = await _kafka(own_broker)
    values = [b"%04d" % at + b"x" * 100_000 + b"\n" for at in range(30)]
    assert sum(map(len, values)) > 3 * MAX_BATCH_BYTES
    try:
        await opened.sink.write([(2, draft(value)) for value in values])
        assert [one.draft.value for one in await opened.records()] == values
    finally:
        await opened.sink.close()


@pytest.mark.services
async def test_a_batch_that_kafka_refuses_fails_its_write_alone_and_the_sink_goes_on(own_broker: KafkaBroker) -> None:
    """Its sequence number is used up, so that the producer could never write to that partition again."""
    opened = await _kafka(own_broker)
    too_large = draft(b"x" * 1_100_000)
    try:
        refused, other = await asyncio.gather(
            opened.sink.write([(1, draft(b"beside\n")), (0, too_large)]),
            opened.sink.write([(2, draft(b"other\n"))]),
            return_exceptions=True,
        )
        assert isinstance(refused, SinkUnavailableError)
        assert other is None
        assert "MessageSizeTooLarge" in str(await opened.sink.not_ready())
        await opened.sink.write([(0, draft(b"a\n")), (1, draft(b"b\n"))])
        assert await opened.sink.not_ready() is None
        assert [one.draft.value for one in await opened.records()] == [b"a\n", b"beside\n", b"b\n", b"other\n"]
    finally:
        await opened.sink.close()


@pytest.mark.services
@pytest.mark.usefixtures("logged_errors")  # aiokafka logs that the topic is not there
async def test_topics_that_do_not_keep_the_guarantees_are_refused_by_name(own_broker: KafkaBroker) -> None:
    address, prefix = own_broker.address, f"test-{uuid.uuid4().hex}."
    with pytest.raises(UnfitTopicError, match=rf"no topic {prefix}events .*; run `phasewatch topics`"):
        await KafkaSink.open(KafkaAccess(address), topic_prefix=prefix, partitions=PARTITIONS)
    events, rejected = few_topics(prefix)
    async with TopicAdmin(KafkaAccess(address)) as admin:
        await admin.create([events])
        with pytest.raises(UnfitTopicError, match=f"no topic {prefix}rejected"):
            await KafkaSink.open(KafkaAccess(address), topic_prefix=prefix, partitions=PARTITIONS)
        await admin.create([rejected])
    with pytest.raises(UnfitTopicError, match=r"has 4 partitions and log.partitions is 8"):
        await KafkaSink.open(KafkaAccess(address), topic_prefix=prefix, partitions=8)


@pytest.mark.services
async def test_the_writers_clock_is_not_accepted_as_append_time(own_broker: KafkaBroker) -> None:
    prefix = f"test-{uuid.uuid4().hex}."
    events, rejected = few_topics(prefix)
    settings = {name: one for name, one in events.settings.items() if name != "message.timestamp.type"}
    async with TopicAdmin(KafkaAccess(own_broker.address)) as admin:
        await admin.create([Topic(events.name, PARTITIONS, 1, settings), rejected])
    with pytest.raises(UnfitTopicError, match=r"message\.timestamp\.type is CreateTime, not LogAppendTime"):
        await KafkaSink.open(KafkaAccess(own_broker.address), topic_prefix=prefix, partitions=PARTITIONS)


@pytest.mark.usefixtures("logged_errors")  # aiokafka logs that nobody answers
async def test_a_kafka_that_is_not_there_is_named() -> None:
    with pytest.raises(SinkUnavailableError, match=r"Kafka at 127\.0\.0\.1:1 "):
        await KafkaSink.open(KafkaAccess("127.0.0.1:1"), topic_prefix="t.", partitions=1, delivery_seconds=3)
