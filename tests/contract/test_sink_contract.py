"""What every sink must do. Another backend joins by one more parameter of the fixture `opened`."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from collector.sinks.port import Sink, SinkUnavailableError
from collector.sinks.sqlite import SqliteSink
from collector.wire.log_file import decode_headers
from collector.wire.record import Draft, Kind, Record, read_headers

NOW = 1_795_288_859_000
PARTITIONS = 4


@dataclass
class Opened:
    """A sink, and ways to look at what it made durable that do not go through it.

    `records` reads topic events, `rejected` the (key, value) pairs of topic rejected, `block` makes the backend
    unavailable and returns what makes it available again, `reopen` opens the same log once more.
    """

    sink: Sink
    records: Callable[[], list[Record]]
    rejected: Callable[[], list[tuple[str, bytes]]]
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

    def records() -> list[Record]:
        return [
            Record(partition, offset, time, read_headers(decode_headers(headers), value))
            for partition, offset, time, _, headers, value in rows("events")
        ]

    def rejected() -> list[tuple[str, bytes]]:
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


@pytest.fixture(params=[_sqlite], ids=["sqlite"])
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opened]:
    one: Opened = request.param(tmp_path)
    yield one
    await one.sink.close()


def draft(value: bytes, clock: int = NOW, **more: object) -> Draft:
    return Draft(kind=Kind.EVENTS, clock=clock, value=value, count=1, **more)  # type: ignore[arg-type]


async def test_what_was_written_is_there_when_write_returns(opened: Opened) -> None:
    await opened.sink.write([(1, draft(b"a\n")), (3, draft(b"b\n", NOW - 5, imported=True)), (1, draft(b"c\n"))])
    assert [(one.partition, one.offset, one.draft.value) for one in opened.records()] == [
        (1, 0, b"a\n"),
        (3, 0, b"b\n"),
        (1, 1, b"c\n"),
    ]
    assert [(one.draft.clock, one.draft.imported, one.time) for one in opened.records()] == [
        (NOW, False, NOW),
        (NOW - 5, True, NOW - 5),
        (NOW, False, NOW),
    ]


async def test_many_writers_at_once_lose_nothing_and_keep_their_order(opened: Opened) -> None:
    async def writer(name: int) -> None:
        for at in range(20):
            await opened.sink.write([(name % PARTITIONS, draft(b"%d-%d\n" % (name, at)))])

    await asyncio.gather(*(writer(name) for name in range(12)))
    records = opened.records()
    assert len(records) == 240
    for name in range(12):
        own = [one.draft.value for one in records if one.draft.value.startswith(b"%d-" % name)]
        assert own == [b"%d-%d\n" % (name, at) for at in range(20)]
    for partition in range(PARTITIONS):
        assert [one.offset for one in records if one.partition == partition] == list(range(60))


async def test_rejected_events_go_to_their_topic(opened: Opened) -> None:
    await opened.sink.write_rejected([("web", b'{"reason":"malformed"}')])
    assert opened.rejected() == [("web", b'{"reason":"malformed"}')]
    assert opened.records() == []


async def test_an_unavailable_backend_says_so_and_recovers(opened: Opened) -> None:
    assert await opened.sink.not_ready() is None
    free = opened.block()
    with pytest.raises(SinkUnavailableError):
        await opened.sink.write([(0, draft(b"a\n"))])
    assert await opened.sink.not_ready()
    free()
    await opened.sink.write([(0, draft(b"b\n"))])
    assert await opened.sink.not_ready() is None
    assert [one.draft.value for one in opened.records()] == [b"b\n"]


async def test_a_writer_that_is_cancelled_harms_nobody(opened: Opened) -> None:
    task = asyncio.create_task(opened.sink.write([(0, draft(b"a\n"))]))
    await asyncio.sleep(0)
    task.cancel()
    await opened.sink.write([(0, draft(b"b\n"))])
    assert opened.records()[-1].draft.value == b"b\n"


async def test_closing_finishes_what_was_accepted(opened: Opened) -> None:
    tasks = [asyncio.create_task(opened.sink.write([(0, draft(b"%d\n" % at))])) for at in range(50)]
    await asyncio.sleep(0)
    await opened.sink.close()
    await asyncio.gather(*tasks)
    assert len(opened.records()) == 50
    with pytest.raises(SinkUnavailableError):
        await opened.sink.write([(0, draft(b"late\n"))])
    assert await opened.sink.not_ready()


async def test_the_number_of_partitions_is_the_logs_own(opened: Opened) -> None:
    await opened.sink.write([(0, draft(b"a\n"))])
    again = await opened.reopen()
    assert again.partitions == PARTITIONS
    await again.write([(0, draft(b"b\n"))])
    assert [one.offset for one in opened.records()] == [0, 1]
    await again.close()


def test_a_file_that_is_no_log_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    path.write_bytes(b"no database at all, but long enough to be read as a header" * 20)
    with pytest.raises(SinkUnavailableError):
        SqliteSink.open(path, partitions=1, log_id="x", clock=lambda: NOW)
