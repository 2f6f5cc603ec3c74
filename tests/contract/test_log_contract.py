"""What every event log and publisher must do. Another backend joins by one more parameter of the fixture `opened`."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from collector.wire.kafka_access import KafkaAccess
from collector.wire.log_file import decode_headers
from collector.wire.record import Draft, Kind, Record
from processors.adapters.kafka.log import KafkaLog
from processors.adapters.kafka.publisher import KafkaPublisher
from processors.adapters.sqlite.log import SqliteLog
from processors.engine.outputs import EVENTS, Output
from processors.engine.ports import EventLog, Publisher, Unreadable
from processors.wire import STAGE_CHANGES, STAGES
from tests.kafka_topics import create_topics, read_topic

NOW = 1_795_288_859_000
PARTITIONS = 4
CLOCKS_DIFFER_MS = 1000

Raw = tuple[bytes | None, list[tuple[str, bytes]], bytes | None]
"""Key, headers and value as they stand in a topic."""


@dataclass
class Opened:
    """A log with its publisher, which owns every partition; `topic` reads one partition of a topic without them.

    `again` opens the same log once more; None where it lives as long as the object alone. `now` is the log's clock.
    """

    log: EventLog
    publisher: Publisher
    topic: Callable[[str, int], Awaitable[list[Raw]]]
    again: Callable[[], Awaitable[EventLog]] | None
    now: int


def _topic(connection: sqlite3.Connection) -> Callable[[str, int], Awaitable[list[Raw]]]:
    async def topic(name: str, partition: int) -> list[Raw]:
        rows = connection.execute(
            'SELECT key, headers, value FROM records WHERE topic = ? AND "partition" = ? ORDER BY "offset"',
            (name, partition),
        ).fetchall()
        return [(key, decode_headers(headers), value) for key, headers, value in rows]

    return topic


def _open_sqlite(path: Path | str, closing: AsyncExitStack) -> SqliteLog:
    clock = count(NOW)
    log = SqliteLog(path, partitions=PARTITIONS, log_id="contract", clock=lambda: next(clock))
    closing.callback(log.close)
    return log


async def _sqlite_file(request: pytest.FixtureRequest, closing: AsyncExitStack) -> Opened:
    path = request.getfixturevalue("tmp_path") / "log.db"

    async def again() -> EventLog:
        return _open_sqlite(path, closing)

    log = _open_sqlite(path, closing)
    connection = sqlite3.connect(path)
    closing.callback(connection.close)
    return Opened(log, log, _topic(connection), again, NOW)


async def _sqlite_memory(_: pytest.FixtureRequest, closing: AsyncExitStack) -> Opened:
    log = _open_sqlite(":memory:", closing)
    return Opened(log, log, _topic(log._connection), None, NOW)  # noqa: SLF001 - a database in memory has no other way in


async def _kafka(request: pytest.FixtureRequest, closing: AsyncExitStack) -> Opened:
    address = request.getfixturevalue("kafka")
    prefix = await create_topics(address, PARTITIONS, EVENTS, STAGE_CHANGES, STAGES)

    async def again() -> KafkaLog:
        log = await KafkaLog.open(KafkaAccess(address), prefix)
        closing.push_async_callback(log.close)
        return log

    async def topic(name: str, partition: int) -> list[Raw]:
        found = await read_topic(address, prefix + name, partition)
        return [(one.key, list(one.headers), one.value) for one in found]

    publisher = KafkaPublisher(KafkaAccess(address), prefix)
    closing.push_async_callback(publisher.close)
    await asyncio.gather(*map(publisher.begin, range(PARTITIONS)))
    return Opened(await again(), publisher, topic, again, int(time.time() * 1000))


KAFKA = pytest.param(_kafka, marks=pytest.mark.services)


@pytest.fixture(params=[_sqlite_file, _sqlite_memory, KAFKA])
async def opened(request: pytest.FixtureRequest) -> AsyncIterator[Opened]:
    async with AsyncExitStack() as closing:
        yield await request.param(request, closing)


@pytest.fixture(params=[_sqlite_file, KAFKA])
async def lasting(request: pytest.FixtureRequest) -> AsyncIterator[Opened]:
    """Return a log that another connection can open, too."""
    async with AsyncExitStack() as closing:
        yield await request.param(request, closing)


@pytest.fixture
def log(opened: Opened) -> EventLog:
    return opened.log


DRAFTS = (
    Draft(Kind.EVENTS, NOW - 5, b'{"id":"1"}\n', 1),
    Draft(Kind.TICK, NOW - 4),
    Draft(Kind.FORWARD, NOW - 3, '{"id":"客户"}\n'.encode(), 1, imported=True, source="2-17/0", person="u:客户 é\n"),
    Draft(Kind.CLAIM, NOW + 10**9, b"\xff\x00 not read here", 0, source="0-0/3"),
)


async def _again(lasting: Opened) -> EventLog:
    assert lasting.again is not None
    return await lasting.again()


async def test_what_is_appended_is_read_back_in_order(log: EventLog) -> None:
    await log.append([(1, draft) for draft in DRAFTS])
    records = [one for one in await log.read(1, 0, 100) if isinstance(one, Record)]
    assert [record.draft for record in records] == list(DRAFTS)
    assert [record.offset for record in records] == [0, 1, 2, 3]
    assert {record.partition for record in records} == {1}
    for record in records:
        assert record.time == min(record.append_time, record.draft.clock)


async def test_reading_starts_at_the_offset_and_ends_after_so_many(log: EventLog) -> None:
    await log.append([(1, draft) for draft in DRAFTS])
    assert [one.offset for one in await log.read(1, 1, 2)] == [1, 2]
    assert [one.offset for one in await log.read(1, 3, 2)] == [3]
    assert await log.read(1, 4, 2) == []
    assert await log.read(0, 0, 2) == []


async def test_bounds_are_the_first_offset_and_the_next_one(log: EventLog) -> None:
    assert await log.bounds(2) == (0, 0)
    await log.append([(2, DRAFTS[1]), (1, DRAFTS[1])])
    assert await log.bounds(2) == (0, 1)
    await log.append([(2, DRAFTS[1])] * 3)
    assert await log.bounds(2) == (0, 4)
    assert await log.bounds(1) == (0, 1)


async def test_offsets_of_a_partition_have_no_gaps(log: EventLog) -> None:
    for _ in range(3):
        await log.append([(partition, DRAFTS[1]) for partition in (0, 3, 0, 1, 0)])
    for partition, many in enumerate((9, 3, 0, 3)):
        assert [one.offset for one in await log.read(partition, 0, 100)] == list(range(many))


async def test_the_append_time_is_the_logs_own_and_never_goes_back(opened: Opened) -> None:
    for _ in range(3):
        await opened.log.append([(0, DRAFTS[0])])
    times = [one.append_time for one in await opened.log.read(0, 0, 9) if isinstance(one, Record)]
    assert times == sorted(times)
    assert min(times) >= opened.now - CLOCKS_DIFFER_MS


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("kind", b"events"), ("count", b"1"), ("clock", b"5")],
        [("kind", b"events"), ("schema", b"1"), ("count", b"1")],
        [("kind", b"dance"), ("schema", b"1"), ("count", b"1"), ("clock", b"5")],
        [("kind", b"events"), ("schema", b"2"), ("count", b"1"), ("clock", b"5")],
        [("kind", b"events"), ("schema", b"1"), ("count", b"many"), ("clock", b"5")],
        [("kind", b"events"), ("schema", b"1"), ("count", b"1"), ("clock", "gestern ☾".encode())],
    ],
)
async def test_a_record_that_cannot_be_read_is_returned_and_not_skipped(
    opened: Opened, headers: list[tuple[str, bytes]]
) -> None:
    log = opened.log
    await log.append([(1, DRAFTS[0])])
    await opened.publisher.publish([Output(EVENTS, 1, None, tuple(headers), b"\x00what is this")])
    await log.append([(1, DRAFTS[1])])
    before, odd, after = await log.read(1, 0, 10)
    assert isinstance(before, Record)
    assert isinstance(after, Record)
    assert isinstance(odd, Unreadable)
    assert (odd.partition, odd.offset, odd.value) == (1, 1, b"\x00what is this")
    assert odd.reason
    assert after.offset == 2
    assert (await log.read(1, 1, 1)) == [odd]


async def test_publishing_keeps_order_keys_headers_and_tombstones(opened: Opened) -> None:
    headers = (("ce_id", b"0-0.0/1"), ("user_id", "客户".encode()), ("empty", b""))
    first = Output("stage-changes", 2, "u:客户".encode(), headers, '{"person":"u:客户"}'.encode())
    gone = Output("stages", 2, "u:客户".encode(), headers, None)
    others = [Output("stage-changes", 2, b"u:%d" % n, (), b"%d" % n) for n in range(20)]
    await opened.publisher.publish([first, gone, *others])
    await opened.publisher.publish([first])
    await opened.publisher.flush(2)
    found = await opened.topic("stage-changes", 2)
    assert [value for _, _, value in found] == [first.value, *(one.value for one in others), first.value]
    assert found[0] == found[-1] == (first.key, list(headers), first.value)
    assert await opened.topic("stages", 2) == [(gone.key, list(headers), None)]
    assert await opened.topic("stages", 1) == []


async def test_what_is_published_to_events_is_read_as_a_record(opened: Opened) -> None:
    draft, log = DRAFTS[2], opened.log
    await log.append([(3, DRAFTS[0])])
    await opened.publisher.publish([Output(EVENTS, 3, None, tuple(draft.headers()), draft.value)])
    record = (await log.read(3, 1, 1))[0]
    assert isinstance(record, Record)
    assert (record.offset, record.draft) == (1, draft)


async def test_nothing_to_append_or_publish_is_no_error(opened: Opened) -> None:
    await opened.log.append([])
    await opened.publisher.publish([])
    await opened.publisher.flush(0)
    assert await opened.log.bounds(0) == (0, 0)


async def test_all_of_it_survives_opening_it_again(lasting: Opened) -> None:
    await lasting.log.append([(1, draft) for draft in DRAFTS])
    before = await lasting.log.read(1, 0, 100)
    log = await _again(lasting)
    assert await log.read(1, 0, 100) == before
    assert (log.partitions, log.log_id) == (PARTITIONS, lasting.log.log_id)
    await log.append([(1, DRAFTS[0])])
    assert await log.bounds(1) == (0, len(DRAFTS) + 1)


async def test_two_writers_share_one_sequence_of_offsets(lasting: Opened) -> None:
    other = await _again(lasting)
    for _ in range(3):
        await lasting.log.append([(0, DRAFTS[0])])
        await other.append([(0, DRAFTS[1])])
    assert [one.offset for one in await other.read(0, 0, 100)] == list(range(6))


async def test_a_long_way_is_read_in_any_steps(opened: Opened) -> None:
    log = opened.log
    for start in range(0, 60, 20):
        await log.append([(2, Draft(Kind.EVENTS, NOW, b"%04d" % n * 250, 1)) for n in range(start, start + 20)])
    for step in (1, 7, 1000):
        found: list[Record | Unreadable] = []
        while some := await log.read(2, len(found), step):
            found += some
        assert [one.draft.value for one in found if isinstance(one, Record)] == [b"%04d" % n * 250 for n in range(60)]


async def test_the_bounds_of_all_partitions_at_once(opened: Opened) -> None:
    await opened.log.append([(1, DRAFTS[0]), (3, DRAFTS[1]), (3, DRAFTS[0])])
    assert isinstance(opened.log, SqliteLog | KafkaLog)
    assert await opened.log.all_bounds() == [(0, 0), (0, 1), (0, 0), (0, 2)]


@pytest.fixture
def news_of(tmp_path: Path) -> Iterator[tuple[SqliteLog, SqliteLog]]:
    """Return two connections to one embedded log, whose readers wait for news; on Kafka they wait in a fetch."""
    logs = [
        SqliteLog(tmp_path / "log.db", partitions=PARTITIONS, log_id="contract", clock=lambda: NOW) for _ in range(2)
    ]
    yield logs[0], logs[1]
    for one in logs:
        one.close()


async def test_news_is_what_another_one_has_written(news_of: tuple[SqliteLog, SqliteLog]) -> None:
    log, other = news_of
    await log.news(0)
    assert not await log.news(0)
    await other.append([(0, DRAFTS[0])])
    assert await log.news(5)
    assert not await log.news(0)
    await other.publish([Output("stages", 0, None, (), None)])
    assert await log.news(5)


async def test_whoever_waits_for_news_hears_of_it(news_of: tuple[SqliteLog, SqliteLog]) -> None:
    log, other = news_of
    await log.news(0)
    waiting = asyncio.create_task(log.news(30))
    await asyncio.sleep(0)
    await other.append([(0, DRAFTS[0])])
    assert await waiting


async def test_the_number_of_partitions_and_the_id_stay_what_they_were(tmp_path: Path) -> None:
    """A log opened with other numbers keeps its own: a store bound to it would otherwise not know it again."""
    first = SqliteLog(tmp_path / "log.db", partitions=8, log_id="first", clock=lambda: NOW)
    first.close()
    again = SqliteLog(tmp_path / "log.db", partitions=2, log_id="second", clock=lambda: NOW)
    assert (again.partitions, again.log_id) == (8, "first")
    again.close()
