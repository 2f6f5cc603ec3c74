"""What every event log and publisher must do. Another backend joins by one more parameter of the fixture `opened`."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from collector.wire.log_file import decode_headers
from collector.wire.record import Draft, Kind, Record
from processors.adapters.sqlite.log import SqliteLog
from processors.engine.outputs import EVENTS, Output
from processors.engine.ports import Unreadable

NOW = 1_795_288_859_000
PARTITIONS = 4

Raw = tuple[bytes | None, list[tuple[str, bytes]], bytes | None]
"""Key, headers and value as they stand in a topic."""


@dataclass
class Opened:
    """A log that is a publisher too; `topic` reads one partition of a topic without it.

    `again` opens the same log once more; None where it lives as long as the object alone.
    """

    log: SqliteLog
    topic: Callable[[str, int], list[Raw]]
    again: Callable[[], SqliteLog] | None


def _topic(connection: sqlite3.Connection) -> Callable[[str, int], list[Raw]]:
    def topic(name: str, partition: int) -> list[Raw]:
        rows = connection.execute(
            'SELECT key, headers, value FROM records WHERE topic = ? AND "partition" = ? ORDER BY "offset"',
            (name, partition),
        ).fetchall()
        return [(key, decode_headers(headers), value) for key, headers, value in rows]

    return topic


def _sqlite_file(directory: Path, closing: ExitStack) -> Opened:
    def open_log() -> SqliteLog:
        path, clock = directory / "log.db", count(NOW)
        log = SqliteLog(path, partitions=PARTITIONS, log_id="contract", clock=lambda: next(clock))
        closing.callback(log.close)
        return log

    log = open_log()
    connection = sqlite3.connect(directory / "log.db")
    closing.callback(connection.close)
    return Opened(log, _topic(connection), open_log)


def _sqlite_memory(_: Path, closing: ExitStack) -> Opened:
    clock = count(NOW)
    log = SqliteLog(":memory:", partitions=PARTITIONS, log_id="contract", clock=lambda: next(clock))
    closing.callback(log.close)
    return Opened(log, _topic(log._connection), None)  # noqa: SLF001 - a database in memory has no other way in


@pytest.fixture(params=[_sqlite_file, _sqlite_memory])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    with ExitStack() as closing:
        found: Opened = request.param(tmp_path, closing)
        yield found


@pytest.fixture(params=[_sqlite_file])
def lasting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    """Return a log that another connection can open, too."""
    with ExitStack() as closing:
        found: Opened = request.param(tmp_path, closing)
        yield found


@pytest.fixture
def log(opened: Opened) -> SqliteLog:
    return opened.log


DRAFTS = (
    Draft(Kind.EVENTS, NOW - 5, b'{"id":"1"}\n', 1),
    Draft(Kind.TICK, NOW - 4),
    Draft(Kind.FORWARD, NOW - 3, '{"id":"客户"}\n'.encode(), 1, imported=True, source="2-17/0", person="u:客户 é\n"),
    Draft(Kind.CLAIM, NOW + 10**9, b"\xff\x00 not read here", 0, source="0-0/3"),
)


def _again(lasting: Opened) -> SqliteLog:
    assert lasting.again is not None
    return lasting.again()


async def test_what_is_appended_is_read_back_in_order(log: SqliteLog) -> None:
    await log.append([(1, draft) for draft in DRAFTS])
    records = [one for one in await log.read(1, 0, 100) if isinstance(one, Record)]
    assert [record.draft for record in records] == list(DRAFTS)
    assert [record.offset for record in records] == [0, 1, 2, 3]
    assert {record.partition for record in records} == {1}
    for record in records:
        assert record.time == min(record.append_time, record.draft.clock)


async def test_reading_starts_at_the_offset_and_ends_after_so_many(log: SqliteLog) -> None:
    await log.append([(1, draft) for draft in DRAFTS])
    assert [one.offset for one in await log.read(1, 1, 2)] == [1, 2]
    assert [one.offset for one in await log.read(1, 3, 2)] == [3]
    assert await log.read(1, 4, 2) == []
    assert await log.read(0, 0, 2) == []


async def test_bounds_are_the_first_offset_and_the_next_one(log: SqliteLog) -> None:
    assert await log.bounds(2) == (0, 0)
    await log.append([(2, DRAFTS[1]), (1, DRAFTS[1])])
    assert await log.bounds(2) == (0, 1)
    await log.append([(2, DRAFTS[1])] * 3)
    assert await log.bounds(2) == (0, 4)
    assert await log.bounds(1) == (0, 1)


async def test_offsets_of_a_partition_have_no_gaps(log: SqliteLog) -> None:
    for _ in range(3):
        await log.append([(partition, DRAFTS[1]) for partition in (0, 3, 0, 1, 0)])
    for partition, many in enumerate((9, 3, 0, 3)):
        assert [one.offset for one in await log.read(partition, 0, 100)] == list(range(many))


async def test_the_append_time_is_the_logs_own_and_never_goes_back(log: SqliteLog) -> None:
    for _ in range(3):
        await log.append([(0, DRAFTS[0])])
    times = [one.append_time for one in await log.read(0, 0, 9) if isinstance(one, Record)]
    assert times == sorted(times)
    assert min(times) >= NOW


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
    log: SqliteLog, headers: list[tuple[str, bytes]]
) -> None:
    await log.append([(1, DRAFTS[0])])
    await log.publish([Output(EVENTS, 1, None, tuple(headers), b"\x00what is this")])
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
    await opened.log.publish([first, gone, *others])
    await opened.log.publish([first])
    found = opened.topic("stage-changes", 2)
    assert [value for _, _, value in found] == [first.value, *(one.value for one in others), first.value]
    assert found[0] == found[-1] == (first.key, list(headers), first.value)
    assert opened.topic("stages", 2) == [(gone.key, list(headers), None)]
    assert opened.topic("stages", 1) == []


async def test_what_is_published_to_events_is_read_as_a_record(log: SqliteLog) -> None:
    draft = DRAFTS[2]
    await log.append([(3, DRAFTS[0])])
    await log.publish([Output(EVENTS, 3, None, tuple(draft.headers()), draft.value)])
    record = (await log.read(3, 1, 1))[0]
    assert isinstance(record, Record)
    assert (record.offset, record.draft) == (1, draft)


async def test_nothing_to_append_or_publish_is_no_error(log: SqliteLog) -> None:
    await log.append([])
    await log.publish([])
    assert await log.bounds(0) == (0, 0)


async def test_news_is_what_another_one_has_written(lasting: Opened) -> None:
    other = _again(lasting)
    await lasting.log.news(0)
    assert not await lasting.log.news(0)
    await other.append([(0, DRAFTS[0])])
    assert await lasting.log.news(5)
    assert not await lasting.log.news(0)
    await other.publish([Output("stages", 0, None, (), None)])
    assert await lasting.log.news(5)


async def test_whoever_waits_for_news_hears_of_it(lasting: Opened) -> None:
    other = _again(lasting)
    await lasting.log.news(0)
    waiting = asyncio.create_task(lasting.log.news(30))
    await asyncio.sleep(0)
    await other.append([(0, DRAFTS[0])])
    assert await waiting


async def test_all_of_it_survives_opening_it_again(lasting: Opened) -> None:
    await lasting.log.append([(1, draft) for draft in DRAFTS])
    before = await lasting.log.read(1, 0, 100)
    lasting.log.close()
    log = _again(lasting)
    assert await log.read(1, 0, 100) == before
    assert (log.partitions, log.log_id) == (PARTITIONS, "contract")
    await log.append([(1, DRAFTS[0])])
    assert await log.bounds(1) == (0, len(DRAFTS) + 1)


async def test_two_writers_share_one_sequence_of_offsets(lasting: Opened) -> None:
    other = _again(lasting)
    for _ in range(3):
        await lasting.log.append([(0, DRAFTS[0])])
        await other.append([(0, DRAFTS[1])])
    assert [one.offset for one in await other.read(0, 0, 100)] == list(range(6))


async def test_the_number_of_partitions_and_the_id_stay_what_they_were(tmp_path: Path) -> None:
    """A log opened with other numbers keeps its own: a store bound to it would otherwise not know it again."""
    first = SqliteLog(tmp_path / "log.db", partitions=8, log_id="first", clock=lambda: NOW)
    first.close()
    again = SqliteLog(tmp_path / "log.db", partitions=2, log_id="second", clock=lambda: NOW)
    assert (again.partitions, again.log_id) == (8, "first")
    again.close()
