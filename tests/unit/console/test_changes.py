"""The feed: one poller, streams without gaps, slow readers ended, nothing left behind."""

from __future__ import annotations

import asyncio

import pytest

from console import changes
from console.changes import Feed, Stream
from console.errors import StoppingError, TooManyStreamsError
from tests.unit.console.messages import Published

PATIENCE_SECONDS = 10


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "POLL_SECONDS", 0.001)


async def cursors(stream: Stream, upto: int) -> list[int]:
    """Read a stream until it has given out the cursor `upto`."""
    found: list[int] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for page in stream.pages():
            found += [int(cursor) for cursor, _ in page]
            if found and found[-1] >= upto:
                break
    return found


@pytest.mark.parametrize("before", [0, 3, 200, 401])
async def test_a_stream_has_no_gap_between_what_was_and_what_comes(before: int) -> None:
    published = Published()
    published.publish(before)
    feed = Feed(published)
    stream = feed.open("0")
    reading = asyncio.create_task(cursors(stream, before + 30))
    for _ in range(10):
        await asyncio.sleep(0)
        published.publish(3)
    assert await reading == list(range(1, before + 31))
    await stream.leave()


async def test_streams_share_one_poller_that_ends_with_the_last() -> None:
    published = Published()
    feed = Feed(published)
    streams = [feed.open("0") for _ in range(3)]
    tasks = asyncio.all_tasks()
    reading = [asyncio.create_task(cursors(stream, 5)) for stream in streams]
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks() - tasks - set(reading)) == 1
    published.publish(5)
    assert await asyncio.gather(*reading) == [[1, 2, 3, 4, 5]] * 3
    for stream in streams:
        await stream.leave()
    assert asyncio.all_tasks() == tasks
    reads = published.reads
    await asyncio.sleep(0)
    assert published.reads == reads


async def test_a_slow_reader_misses_nothing_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "PAGE_CHANGES", 5)
    published = Published()
    feed = Feed(published)
    slow, quick = feed.open("0"), feed.open("0")
    slow_pages = slow.pages()
    waiting = asyncio.ensure_future(anext(slow_pages))
    reading = asyncio.create_task(cursors(quick, 24))
    for count in range(1, 9):
        published.publish(3)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while int(quick.cursor) < 3 * count:  # noqa: ASYNC110 - a cursor sets no event
                await asyncio.sleep(0)
    assert await reading == list(range(1, 25))
    found = [int(cursor) for cursor, _ in await waiting]
    while len(found) < 24:
        found += [int(cursor) for cursor, _ in await anext(slow_pages)]
    assert found == list(range(1, 25))
    await slow_pages.aclose()
    for stream in (slow, quick):
        await stream.leave()


async def test_streams_at_the_same_place_share_one_reading() -> None:
    published = Published()
    feed = Feed(published)
    streams = [feed.open("0") for _ in range(50)]
    reading = [asyncio.create_task(cursors(stream, 100)) for stream in streams]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while published.reads < 60:  # noqa: ASYNC110 - everybody has looked, and the poller some more
            await asyncio.sleep(0.001)
    before = published.reads
    published.publish(100)
    assert await asyncio.gather(*reading) == [list(range(1, 101))] * 50
    assert published.reads - before < 10
    for stream in streams:
        await stream.leave()


async def test_a_heartbeat_when_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "HEARTBEAT_SECONDS", 0.001)
    stream = Feed(Published()).open("0")
    async for page in stream.pages():
        assert page == []
        break
    await stream.leave()


async def test_the_number_of_streams_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MOST_STREAMS", 2)
    feed = Feed(Published())
    first, second = feed.open("0"), feed.open("0")
    with pytest.raises(TooManyStreamsError, match="2 are open"):
        feed.open("0")
    await first.leave()
    third = feed.open("0")
    for stream in (second, third):
        await stream.leave()


async def test_a_closed_feed_ends_its_streams_and_takes_none() -> None:
    feed = Feed(Published())
    stream = feed.open("0")
    feed.close()
    assert stream.ended.is_set()
    with pytest.raises(StoppingError):
        feed.open("0")
    await stream.leave()


class BrokenError(Exception):
    """The log can't be read."""


async def test_a_log_that_breaks_ends_the_streams_and_is_told() -> None:
    class Breaking(Published):
        async def changes(self, after: str, most: int) -> list[tuple[str, bytes]]:
            if self.reads == 3:
                raise BrokenError
            return await super().changes(after, most)

    stream = Feed(Breaking()).open("0")
    pages = stream.pages()
    waiting = asyncio.ensure_future(anext(pages))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await stream.ended.wait()
    waiting.cancel()
    await asyncio.wait([waiting])
    with pytest.raises(BrokenError):
        await stream.leave()
