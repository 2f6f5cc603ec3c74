"""Server-sent events (WHATWG HTML, section 9.2): stage changes as one response without an end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from console.changes import Change, Stream
from console.door import VISIT, Visit

RETRY_MS: Final = 1000
"""After how long an EventSource connects again."""
STALLED_SECONDS: Final = 30
"""How long a reader may take nothing at all before its place is given to others."""
_FAREWELL_SECONDS: Final = 1
"""How long a reader that takes nothing may delay the end of its response."""
_HEARTBEAT: Final = b": heartbeat\n\n"


class EventStream(Response):
    """The response that sends a stream's changes until the reader goes, is stuck, is logged out, or all stops."""

    media_type = "text/event-stream"

    def __init__(self, stream: Stream) -> None:
        headers: Mapping[str, str] = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        self.status_code, self.background = 200, None
        self.init_headers(headers)
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream and give its place up in the end."""
        sending, gone = asyncio.create_task(self._send_all(send)), asyncio.create_task(_disconnect(receive))
        tasks = [sending, gone, asyncio.create_task(self._stream.ended.wait())]
        visit: Visit | None = scope.get("state", {}).get(VISIT)
        if visit is not None and visit.session is not None:
            tasks.append(asyncio.create_task(visit.sessions.wait_over(visit.session)))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self._stream.leave()
        if gone.cancelled():
            with suppress(TimeoutError):  # the server closes the connection of a response that was left unfinished
                async with asyncio.timeout(_FAREWELL_SECONDS):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        # An id without data sets the reader's last event id: it can resume before any change has come.
        body = b"retry: %d\nid: %b\n\n" % (RETRY_MS, self._stream.cursor.encode())
        await send({"type": "http.response.body", "body": body, "more_body": True})
        async for page in self._stream.pages():
            body = b"".join(map(event_of, page)) or _HEARTBEAT
            try:
                async with asyncio.timeout(STALLED_SECONDS):
                    await send({"type": "http.response.body", "body": body, "more_body": True})
            except TimeoutError:
                return


def event_of(change: Change) -> bytes:
    """Return a change as one event; its message is JSON in one line."""
    cursor, message = change
    return b"id: %b\nevent: change\ndata: %b\n\n" % (cursor.encode(), message)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
