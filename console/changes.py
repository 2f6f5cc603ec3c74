"""Stage changes as they happen: one poller for all streams, and each stream's place in what was published."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from console.errors import StoppingError, TooManyStreamsError
from processors.engine.query import ChangeReader

Change = tuple[str, bytes]
"""Cursor and message, as a `ChangeReader` returns them."""

MOST_STREAMS: Final = 100
"""A stream costs a socket and a page of messages, some 200 kB; more readers belong on the topic."""
POLL_SECONDS: Final = 0.05
"""A change is on the streams within 100 ms."""
HEARTBEAT_SECONDS: Final = 15
"""Below the 30 to 60 s after which common proxies give up on a silent connection."""
PAGE_CHANGES: Final = 200

END: Final = 2**62
"""An instant (UTC ms) that no record is younger than."""


class Feed:
    """Tells every open stream when there is something new, and gives it what follows its cursor."""

    def __init__(self, reader: ChangeReader) -> None:
        self._reader = reader
        self._streams: set[Stream] = set()
        self._joined: set[Stream] = set()
        self._poller: asyncio.Task[None] | None = None
        self._at: str | None = None
        """Where the poller is: after it there was nothing when it last looked."""
        self._latest: tuple[str, list[Change]] = ("", [])
        """What the poller found last, and after which cursor: most streams are there too, and need not read."""
        self._stopping = False

    def open(self, after: str) -> Stream:
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
        stream = Stream(self, after)
        self._streams.add(stream)
        return stream

    def join(self, stream: Stream) -> None:
        """Tell `stream` of news from now on."""
        self._joined.add(stream)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())

    async def after(self, cursor: str) -> list[Change]:
        """Return a page of what follows a cursor; none when nothing does, and news will be told."""
        if cursor == self._at:
            return []
        before, page = self._latest
        return page if cursor == before else await self._reader.changes(cursor, PAGE_CHANGES)

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

    async def _poll(self) -> None:
        try:
            cursor = await self._reader.cursor_at(END)
            self._tell()  # of what was published before that place was known
            while True:
                page = await self._reader.changes(cursor, PAGE_CHANGES)
                if page:
                    self._latest, cursor = (cursor, page), page[-1][0]
                    self._tell()
                self._at = cursor
                await asyncio.sleep(POLL_SECONDS if len(page) < PAGE_CHANGES else 0)
        finally:
            self._at, self._latest = None, ("", [])
            for stream in self._joined:  # without a poller a stream would only be silent
                stream.ended.set()

    def _tell(self) -> None:
        for stream in self._joined:
            stream.news.set()


class Stream:
    """One reader's stream: `cursor` is the last change it was given. It reads at its reader's pace."""

    def __init__(self, feed: Feed, after: str) -> None:
        self.cursor = after
        self.ended = asyncio.Event()
        """Set when the stream has to end: the log can't be read, or the console stops."""
        self.news = asyncio.Event()
        """Set when something was published."""
        self._feed = feed

    async def leave(self) -> None:
        """Give up the place in the feed."""
        await self._feed.leave(self)

    async def pages(self) -> AsyncGenerator[list[Change]]:
        """Yield changes in order without a gap, those published before first; an empty list is a heartbeat."""
        self._feed.join(self)
        while True:
            self.news.clear()  # before reading: what comes after it sets it again
            page = await self._feed.after(self.cursor)
            if page:
                self.cursor = page[-1][0]
            elif await self._is_told():
                continue
            yield page

    async def _is_told(self) -> bool:
        """Wait for news; return False after `HEARTBEAT_SECONDS` without."""
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                return await self.news.wait()
        except TimeoutError:
            return False
