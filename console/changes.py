"""Stage changes as they happen: one poller for all streams, and each stream's place in what was published."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Final

from console.errors import StoppingError, TooManyStreamsError
from processors.engine.query import ChangeReader

Change = tuple[int, bytes]
"""Cursor and message, as a `ChangeReader` returns them."""

MOST_STREAMS: Final = 100
"""A stream costs a socket and at most a full queue of messages, some 1 MB; more readers belong on the topic."""
QUEUE_CHANGES: Final = 1000
POLL_SECONDS: Final = 0.1
HEARTBEAT_SECONDS: Final = 15
"""Below the 30 to 60 s after which common proxies give up on a silent connection."""
PAGE_CHANGES: Final = 200

END: Final = 2**62
"""An instant (UTC ms) that no record is younger than."""
_SPANS_MS: Final = (60_000, 3_600_000, 86_400_000)


async def newest_changes(reader: ChangeReader, start: int, now: int, most: int) -> list[Change]:
    """Return the newest `most` changes after the cursor `start`, oldest first; `now` in UTC ms.

    A reader only reads forward, so ever longer spans of the past are tried.
    """
    found: list[Change] = []
    for begin in (*(max(start, reader.cursor_at(now - span)) for span in _SPANS_MS), start):
        found = await _last_after(reader, begin, most)
        if len(found) == most or begin == start:
            break
    return found


async def _last_after(reader: ChangeReader, cursor: int, most: int) -> list[Change]:
    kept: deque[Change] = deque(maxlen=most)
    while page := reader.changes(cursor, PAGE_CHANGES):
        kept.extend(page)
        cursor = page[-1][0]
        await asyncio.sleep(0)  # a burst of changes must not hold up the other requests
    return list(kept)


class Feed:
    """Hands what is published to every open stream."""

    def __init__(self, reader: ChangeReader) -> None:
        self._reader = reader
        self._streams: set[Stream] = set()
        self._joined: set[Stream] = set()
        self._poller: asyncio.Task[None] | None = None
        self._stopping = False

    def open(self, after: int) -> Stream:
        """Return a new stream of what follows the cursor `after`; `leave` has to follow.

        Raises:
            TooManyStreamsError: if `MOST_STREAMS` are open.
            StoppingError: after `close`.
        """
        if self._stopping:
            raise StoppingError
        if len(self._streams) >= MOST_STREAMS:
            msg = f"{MOST_STREAMS} are open, which is the limit: close one, or poll /api/changes"
            raise TooManyStreamsError(msg)
        stream = Stream(self, self._reader, after)
        self._streams.add(stream)
        return stream

    def join(self, stream: Stream) -> None:
        """Hand to `stream`, which has read all there is, what comes from now on."""
        self._joined.add(stream)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(stream.cursor))

    async def leave(self, stream: Stream) -> None:
        """Forget a stream; with the last one the poller ends, and whatever it failed of is raised here."""
        self._streams.discard(stream)
        self._joined.discard(stream)
        if self._poller is not None and not self._joined:
            poller, self._poller = self._poller, None
            poller.cancel()
            await asyncio.wait([poller])
            if not poller.cancelled():
                poller.result()

    def close(self) -> None:
        """End every stream and take no new one: before a server stops, which waits for its responses to end."""
        self._stopping = True
        for stream in self._streams:
            stream.ended.set()

    async def _poll(self, cursor: int) -> None:
        try:
            while True:
                page = self._reader.changes(cursor, PAGE_CHANGES)
                for stream in self._joined:
                    stream.offer(page)
                if page:
                    cursor = page[-1][0]
                await asyncio.sleep(POLL_SECONDS if len(page) < PAGE_CHANGES else 0)
        finally:
            for stream in self._joined:  # without a poller a stream would only be silent
                stream.ended.set()


class Stream:
    """One reader's stream: `cursor` is the last change it was given."""

    def __init__(self, feed: Feed, reader: ChangeReader, after: int) -> None:
        self.cursor = after
        self.ended = asyncio.Event()
        """Set when the stream has to end: its reader is too slow, the log can't be read, or the console stops."""
        self._feed, self._reader = feed, reader
        self._queue: asyncio.Queue[Change] = asyncio.Queue(QUEUE_CHANGES)

    def offer(self, page: list[Change]) -> None:
        """Queue changes; a stream whose queue is full ends, and its reader resumes by its last event id."""
        for change in page:
            if self._queue.full():
                self.ended.set()
                return
            self._queue.put_nowait(change)

    async def leave(self) -> None:
        """Give up the place in the feed."""
        await self._feed.leave(self)

    async def pages(self) -> AsyncGenerator[list[Change]]:
        """Yield changes in order without a gap, those published before first; an empty list is a heartbeat."""
        page = self._reader.changes(self.cursor, PAGE_CHANGES)
        while len(page) == PAGE_CHANGES:
            self.cursor = page[-1][0]
            yield page
            page = self._reader.changes(self.cursor, PAGE_CHANGES)
        if page:
            self.cursor = page[-1][0]
        self._feed.join(self)  # nothing was awaited since the last read: no gap
        if page:
            yield page
        while True:
            yield await self._queued()

    async def _queued(self) -> list[Change]:
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                waiting = [await self._queue.get()]
        except TimeoutError:
            return []
        while not self._queue.empty():
            waiting.append(self._queue.get_nowait())
        fresh = [change for change in waiting if change[0] > self.cursor]
        if fresh:
            self.cursor = fresh[-1][0]
        return fresh
