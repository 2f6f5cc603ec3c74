"""The response without an end: it ends when the reader is gone or stuck."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from starlette.types import Message

from console import changes, stream
from console.changes import Feed
from console.stream import EventStream
from tests.unit.console.messages import Published

PATIENCE_SECONDS = 10


class Reader:
    """The server's side of ASGI, with a reader that takes the first `takes` parts of the body and then no more."""

    def __init__(self, takes: int) -> None:
        self.parts: list[bytes] = []
        self.gone = asyncio.Event()
        self._takes = takes

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            if len(self.parts) == self._takes:
                await asyncio.Event().wait()
            self.parts.append(message["body"])

    async def read(self, feed: Feed) -> None:
        """Read the changes from the beginning until the response ends."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await EventStream(feed.open("0"))({"type": "http"}, self.receive, self.send)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(changes, "MOST_STREAMS", 1)
    monkeypatch.setattr(stream, "_FAREWELL_SECONDS", 0.001)


async def its_place_is_free(feed: Feed) -> None:
    await feed.open("0").leave()


async def test_a_reader_that_takes_nothing_loses_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "STALLED_SECONDS", 0.01)
    published = Published()
    published.publish(500)
    feed = Feed(published)
    await Reader(takes=1).read(feed)
    await its_place_is_free(feed)


@pytest.mark.parametrize("end", [lambda _, reader: reader.gone.set(), lambda feed, _: feed.close()])
async def test_a_stream_ends_at_once(end: Callable[[Feed, Reader], None]) -> None:
    published = Published()
    published.publish(2)
    feed, reader = Feed(published), Reader(takes=100)
    reading = asyncio.create_task(reader.read(feed))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(reader.parts) < 2:  # noqa: ASYNC110 - the reader is as plain as ASGI
            await asyncio.sleep(0)
    end(feed, reader)
    await reading
    assert reader.parts[0] == b"retry: 1000\nid: 0\n\n"
    assert reader.parts[1].count(b"event: change\n") == 2
