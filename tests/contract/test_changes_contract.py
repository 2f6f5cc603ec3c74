"""What every reader of stage changes must do. Another backend joins by one more parameter of the fixture `opened`."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.wire.kafka_access import KafkaAccess
from console.changes import END, Feed
from processors.adapters.kafka import tail
from processors.adapters.kafka.changes import KafkaChanges
from processors.adapters.kafka.cursors import CursorCodec
from processors.adapters.kafka.publisher import KafkaPublisher
from processors.adapters.sqlite.log import SqliteLog
from processors.engine.outputs import Output
from processors.engine.ports import Publisher
from processors.engine.query import BadCursorError, ChangeReader
from processors.wire import STAGE_CHANGES
from tests.kafka_topics import create_topics

PARTITIONS = 4
PATIENCE_SECONDS = 15
FIRST = 0
"""An instant before everything."""


@dataclass
class Opened:
    """A reader and who publishes; `again` returns another reader of the same, as another process has it."""

    reader: ChangeReader
    publisher: Publisher
    again: Callable[[], Awaitable[ChangeReader]]
    published: int = 0

    async def publish(self, count: int) -> None:
        """Publish changes with the numbers that follow, over all partitions and one after the other."""
        numbers = range(self.published, self.published + count)
        await self.publisher.publish(
            [Output(STAGE_CHANGES, n % PARTITIONS, b"u:%d" % n, (), b'{"n":%d}' % n) for n in numbers]
        )
        self.published += count


async def _sqlite(request: pytest.FixtureRequest, closing: AsyncExitStack) -> Opened:
    folder: Path = request.getfixturevalue("tmp_path")

    async def again() -> SqliteLog:
        log = SqliteLog(folder / "log.db", partitions=PARTITIONS, log_id="t", clock=lambda: time.time_ns() // 1_000_000)
        closing.callback(log.close)
        return log

    return Opened(await again(), await again(), again)


async def _kafka(request: pytest.FixtureRequest, closing: AsyncExitStack) -> Opened:
    address = request.getfixturevalue("kafka")
    prefix = await create_topics(address, PARTITIONS, STAGE_CHANGES)

    async def again() -> KafkaChanges:
        reader = KafkaChanges(KafkaAccess(address), prefix)
        closing.push_async_callback(reader.close)
        return reader

    publisher = KafkaPublisher(KafkaAccess(address), prefix)
    closing.push_async_callback(publisher.close)
    return Opened(await again(), publisher, again)


async def _kafka_that_keeps_little(request: pytest.FixtureRequest, closing: AsyncExitStack) -> Opened:
    """Most of what is read is not in memory any more."""
    request.getfixturevalue("monkeypatch").setattr(tail, "MOST_CHANGES", 8)
    return await _kafka(request, closing)


@pytest.fixture(
    params=[
        _sqlite,
        pytest.param(_kafka, marks=pytest.mark.services),
        pytest.param(_kafka_that_keeps_little, marks=pytest.mark.services),
    ]
)
async def opened(request: pytest.FixtureRequest) -> AsyncIterator[Opened]:
    async with AsyncExitStack() as closing:
        yield await request.param(request, closing)


def numbers(page: list[tuple[str, bytes]]) -> list[int]:
    return [int(value[5:-1]) for _, value in page]


async def follow(reader: ChangeReader, cursor: str, count: int, most: int = 200) -> list[tuple[str, bytes]]:
    """Read so many changes after a cursor, page by page."""
    found: list[tuple[str, bytes]] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(found) < count:
            page = await reader.changes(cursor, most)
            assert len(page) <= most
            found += page
            cursor = page[-1][0] if page else cursor
            await asyncio.sleep(0 if page else 0.005)
    return found


def assert_complete(found: list[int], expected: range) -> None:
    """Every number once, and in order within each partition."""
    assert sorted(found) == list(expected)
    for partition in range(PARTITIONS):
        of_one = [n for n in found if n % PARTITIONS == partition]
        assert of_one == sorted(of_one)


@pytest.mark.parametrize("most", [1, 7, 1000])
async def test_pages_give_everything_once_and_in_order(opened: Opened, most: int) -> None:
    for _ in range(4):
        await opened.publish(15)
    cursor = await opened.reader.cursor_at(FIRST)
    found = await follow(opened.reader, cursor, 60, most)
    assert_complete(numbers(found), range(60))
    assert await opened.reader.changes(found[-1][0], most) == []


async def test_a_cursor_serves_in_every_process_and_after_a_restart(opened: Opened) -> None:
    await opened.publish(20)
    before = await opened.again()
    found = await follow(before, await before.cursor_at(FIRST), 20, 3)
    await opened.publish(20)
    for number, (cursor, _) in enumerate(found, 1):
        other = opened.reader
        rest = await follow(other, cursor, 40 - number)
        assert_complete(numbers(found[:number]) + numbers(rest), range(40))


async def test_changes_that_come_are_found_after_the_last_cursor(opened: Opened) -> None:
    cursor = await opened.reader.cursor_at(END)
    for round_ in range(10):
        await opened.publish(5)
        found = await follow(opened.reader, cursor, 5)
        assert_complete(numbers(found), range(5 * round_, 5 * round_ + 5))
        cursor = found[-1][0]


async def test_a_cursor_at_an_instant(opened: Opened) -> None:
    empty = await opened.reader.cursor_at(FIRST)
    assert await opened.reader.changes(empty, 10) == []
    await opened.publish(6)
    await asyncio.sleep(0.05)  # so that an instant lies between
    instant = time.time_ns() // 1_000_000
    await asyncio.sleep(0.05)
    await opened.publish(6)
    reader = await opened.again()
    assert_complete(numbers(await follow(reader, await reader.cursor_at(instant), 6)), range(6, 12))
    assert await reader.changes(await reader.cursor_at(END), 10) == []
    assert_complete(numbers(await follow(reader, empty, 12)), range(12))


@pytest.mark.parametrize("most", [1, 5, 30, 100])
async def test_the_newest(opened: Opened, most: int) -> None:
    for _ in range(3):
        await opened.publish(10)
        await asyncio.sleep(0.01)  # so that the time of publication tells what is newer
    first = await opened.reader.cursor_at(FIRST)
    everything = await follow(opened.reader, first, 30)
    newest = await opened.reader.newest(first, most)
    assert len(newest) == min(most, 30)
    assert all(number >= 30 - 10 * -(-most // 10) for number in numbers(newest))
    middle = everything[14][0]
    assert sorted(numbers(await opened.reader.newest(middle, 100))) == sorted(numbers(everything[15:]))
    assert await opened.reader.newest(everything[-1][0], most) == []
    await opened.publish(4)  # their cursors go on without a gap
    assert_complete(numbers(await follow(opened.reader, newest[-1][0], 4)), range(30, 34))
    for number, (cursor, _) in enumerate(newest, 1):
        rest = await follow(opened.reader, cursor, len(newest) - number + 4)
        assert sorted(numbers(rest)) == sorted([*numbers(newest[number:]), 30, 31, 32, 33])


async def test_a_cursor_is_a_plain_word(opened: Opened) -> None:
    await opened.publish(5)
    for cursor, _ in await follow(opened.reader, await opened.reader.cursor_at(FIRST), 5):
        assert re.fullmatch("[A-Za-z0-9_-]{1,4096}", cursor)
        await opened.reader.check(cursor)


@pytest.mark.parametrize("text", ["x", "-1", "9" * 19, "AAAA", "_" * 4096, "A" * 43, "no cursor", "٣", "é", "AAAA=="])
async def test_what_is_no_cursor_is_refused(opened: Opened, text: str) -> None:
    await opened.publish(1)
    for asking in (opened.reader.check(text), opened.reader.changes(text, 1), opened.reader.newest(text, 1)):
        with pytest.raises(BadCursorError):
            await asking


async def test_a_stream_has_no_gap_and_is_prompt(opened: Opened) -> None:
    feed = Feed(opened.reader)
    stream = feed.open(await opened.reader.cursor_at(FIRST))

    async def read() -> list[int]:
        found: list[int] = []
        async for page in stream.pages():
            found += numbers(page)
            if len(found) == 300:
                break
        return found

    reading = asyncio.create_task(read())
    for _ in range(30):
        await opened.publish(10)
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert_complete(await reading, range(300))
    assert time.monotonic() - began < 1  # 0.1 s on a machine that does nothing else
    await stream.leave()


@pytest.mark.services
async def test_a_cursor_of_another_topic_is_refused(kafka: str) -> None:
    """Also of one that bore the same name before: its offsets would mean other changes."""
    readers = [
        KafkaChanges(KafkaAccess(kafka), await create_topics(kafka, PARTITIONS, STAGE_CHANGES)) for _ in range(2)
    ]
    cursor = await readers[0].cursor_at(END)
    with pytest.raises(BadCursorError, match="another log's"):
        await readers[1].check(cursor)
    for reader in readers:
        await reader.close()


@given(st.lists(st.integers(0, 2**40), min_size=5, max_size=5), st.text(max_size=60))
def test_cursors_of_kafka_are_read_back_and_nothing_else_is(offsets: list[int], text: str) -> None:
    codec = CursorCodec("topic", 5)
    assert codec.decode(codec.encode(offsets)) == offsets
    with pytest.raises(BadCursorError):
        codec.decode(text)
    with pytest.raises(BadCursorError):
        CursorCodec("topic", 4).decode(codec.encode(offsets))
