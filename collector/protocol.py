"""The collector's HTTP/1.1 for uvicorn: posts of events skip ASGI, which costs as much as all the rest (measured).

Everything else goes the ASGI way through uvicorn's own class, of which this is a subclass. Both kinds of requests
share a connection and are answered in the order in which they came: an upload stands in for uvicorn's request cycle.

What it uses of uvicorn that is not documented, and why (uvicorn.protocols.http.httptools_impl, flow_control; the
version is pinned in requirements.txt, and tests/integration/test_protocol.py shows when one of them changes):

- the parser's callbacks `on_message_begin`, `on_url`, `on_header`, `on_headers_complete`, `on_body`,
  `on_message_complete`, with `url`, `headers`, `scope` and `expect_100_continue`: to see a request's head before its
  scope is made, and to hand it back for the ASGI way;
- `cycle` (the latest request), `pipeline` (those that wait for their turn), `_start_asgi_task` (somebody's turn has
  come), `on_response_complete` (the next one's turn) with `_unset_keepalive_if_required`: the order of answers, the
  keep-alive time and the count of requests stay uvicorn's; of a cycle it looks at `response_complete`, `disconnected`,
  `keep_alive` and `message_event`;
- `tasks`: uvicorn's stop waits for the answers under way; `flow`: reading pauses and goes on in one place;
- `server_state.default_headers`, `STATUS_LINE`, `config`, `root_path`, `limit_concurrency`: answers and limits are
  those that uvicorn was given.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from http import HTTPStatus
from time import perf_counter
from typing import Any, ClassVar, Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from collector.answer import Answer, refusal
from collector.cors import read_origin
from collector.dialects.path import EventPath
from collector.errors import OverloadedError, RequestError, TooLargeHeadError, UnreadableRequestError
from collector.events import Upload
from collector.guards.proxies import read_address
from collector.head import Head
from collector.http import CollectorApp

MOST_PIPELINED: Final = 20_000
"""Requests of all connections of a process that wait for their turn, about 2 KB each; only benchmarks send any."""
UPGRADE_HEADERS: Final = frozenset({b"upgrade", b"connection", b"http2-settings"})
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def ingest_protocol(app: CollectorApp) -> type[asyncio.Protocol]:
    """Return the class for `uvicorn.Config(app, http=...)`, where `app` is the same."""
    return type("IngestProtocol", (_IngestProtocol,), {"collector": app})


class _NoEvent:
    """Stands for the event by which uvicorn wakes an ASGI application that reads; an upload never reads."""

    def set(self) -> None:
        pass


class _Upload:
    """One post of events on a connection, in the place of uvicorn's RequestResponseCycle."""

    message_event: Final = _NoEvent()

    def __init__(self, connection: _IngestProtocol, events_path: EventPath, head: Head) -> None:
        self._connection = connection
        self._app = connection.collector
        self._events_path = events_path
        self._started = perf_counter()
        self._my_turn = False
        self._refusal: Answer | None = None
        self._upload: Upload | None = None
        self._origin = head.origin
        self._expects = connection.expect_100_continue
        self.body_complete = False
        self.response_complete = False
        self.disconnected = False
        parser = connection.parser
        self.keep_alive: bool = parser.get_http_version() != "1.0" and parser.should_keep_alive()
        try:
            self._upload = self._app.events.admit(events_path, head)
            self._upload.body.on_shed = self._give_up
        except RequestError as error:
            self.refuse(error)

    def begin(self) -> None:
        """Take the turn: every earlier request of the connection is answered."""
        self._my_turn = True
        if self._refusal is not None:
            self._send(self._refusal)
        elif self.body_complete:
            self._take()
        elif self._expects:
            self._connection.transport.write(CONTINUE)
            self._expects = False

    def add(self, chunk: bytes) -> None:
        """Take over what has arrived of the body; what belongs to a refused one is dropped."""
        if self._upload is not None:
            try:
                self._upload.body.add(chunk)
            except RequestError as error:
                self.refuse(error)

    def end(self) -> None:
        """Note that the body is complete."""
        self.body_complete = True
        if self._my_turn:
            self._take()

    def refuse(self, error: RequestError) -> None:
        """Answer with an error, at once or when the turn comes; the rest of the body is dropped as it arrives."""
        self.drop()
        self._refusal = self._refusal_of(error)
        if self._my_turn:
            self._send(self._refusal)

    def _give_up(self, error: RequestError) -> None:
        """Make room for the bodies of others: the rest of this one is not read."""
        self.keep_alive = False
        self.refuse(error)

    def _refusal_of(self, error: Exception) -> Answer:
        return self._app.refuse(error, self._events_path.name, self._events_path.instead)

    def drop(self) -> None:
        """Give up what has arrived."""
        if self._upload is not None:
            self._upload.body.release()
            self._upload = None

    def _take(self) -> None:
        """Have the events taken over, while the body is in the processor's cache, and answer when they are durable."""
        upload, self._upload = self._upload, None
        if upload is None:
            return
        try:
            results = self._app.events.take(upload)
        except Exception as error:  # noqa: BLE001 - in the table, or logged, counted and answered
            self._send(self._refusal_of(error))
            return
        connection = self._connection
        task = connection.loop.create_task(self._answer(results))
        connection.tasks.add(task)
        task.add_done_callback(connection.tasks.discard)

    async def _answer(self, results: Awaitable[Answer]) -> None:
        try:
            answer = await results
        except asyncio.CancelledError:
            self._connection.transport.close()  # the server's stop has waited long enough; the client asks again
            raise
        except Exception as error:  # noqa: BLE001 - as above
            answer = self._refusal_of(error)
        self._send(answer)

    def _send(self, answer: Answer) -> None:
        connection = self._connection
        self._app.finish(answer, self._events_path.name, self._started, self._origin)
        self.response_complete = True
        if connection.transport.is_closing():
            return
        if self._expects and not self.body_complete:
            self.keep_alive = False  # nobody knows whether a body follows that was never asked for
        connection.send(answer, keep_alive=self.keep_alive)
        if not self.keep_alive:
            connection.transport.close()
        connection.on_response_complete()


class _IngestProtocol(HttpToolsProtocol):
    """One connection."""

    collector: ClassVar[CollectorApp]
    cycle: Any
    pipeline: deque[Any]

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(*arguments, **named)
        self._peer: str | None = None
        self._direct = not self.root_path and self.limit_concurrency is None
        self._head_bytes = 0
        self._unread_bytes = 0  # came since the parser last told of something whole, so are kept by the parser
        self._chunk_bytes = 0  # what came last, ...
        self._first_bytes = 0  # ... and what came when the head began, of which it has a part
        self._held_bytes = 0  # of a head, counted among all that is being read
        self._waiting = 0  # pipelined requests, counted among those of all connections
        self._begun = False  # a request is arriving, ...
        self._in_head = False  # ... and its head still is
        self._deadline: asyncio.TimerHandle | None = None
        self._current: Any = None  # the request whose turn it is, an upload or uvicorn's
        self._last_words: Answer | None = None
        self._ending = False  # nothing more is read; closed after the last answer

    # What arrives

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note who has connected; called by the event loop."""
        super().connection_made(transport)
        self._peer = read_address(self.client[0]) if self.client else None
        if not self.collector.connections.opened(self, self._peer):
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read on; called by the event loop."""
        if self._ending:
            return
        self._unset_keepalive_if_required()
        self._chunk_bytes = len(data)
        self._unread_bytes += len(data)
        try:
            self._feed(data)
            if self._unread_bytes > self.collector.events.bodies.limits.head_bytes:
                self._refuse_head()
        except RequestError as error:
            self._end_with(error)
        except httptools.HttpParserError as error:  # a callback's own error is the context of the parser's
            found = error.__context__
            self._end_with(found if isinstance(found, RequestError) else UnreadableRequestError(str(error)))
        self._watch()

    def _feed(self, data: bytes) -> None:
        """Parse; a request to switch to another protocol is taken as if it did not ask, which RFC 9110 allows.

        The parser reads nothing after the head of such a request. Java's HttpClient asks for HTTP/2 in the first
        request of every connection without TLS.
        """
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_upgrade() + data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's: for pipelining
            else:
                return

    def _without_upgrade(self) -> bytes:
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            msg = "CONNECT is for proxies"
            raise UnreadableRequestError(msg)
        kept = [b"%b: %b\r\n" % header for header in self.headers if header[0] not in UPGRADE_HEADERS]
        return b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, b"".join(kept))

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Note that the client will send nothing more; True keeps the connection open for answers under way."""
        self._give_up_arriving()
        self._ending = self._current is not None and not self._current.response_complete
        return self._ending and self.scheme != "https"  # TLS can't be half closed

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up what has arrived and is not being answered; called by the event loop."""
        self._begun = False
        self._watch()
        self.collector.connections.closed(self)
        for waiting in (self.cycle, *(cycle for cycle, _ in self.pipeline)):
            if isinstance(waiting, _Upload):
                waiting.drop()
        self.pipeline.clear()
        self._count_waiting()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._head_bytes = self._unread_bytes = 0
        self._first_bytes = self._chunk_bytes
        self._begun = self._in_head = True

    def on_url(self, url: bytes) -> None:
        self._count_head(len(url))
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value))
        super().on_header(name, value)

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.collector.events.bodies.limits.head_bytes:
            self._refuse_head()

    def _refuse_head(self) -> None:
        limit = self.collector.events.bodies.limits.head_bytes
        msg = f"URL and headers are larger than {limit} bytes: send cookies elsewhere"
        raise TooLargeHeadError(msg)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # `_feed` comes back with it
        self._in_head = False
        self._unread_bytes = 0
        if self.pipeline:
            self._count_waiting()
            if self.collector.connections.pipelined > MOST_PIPELINED:
                msg = f"more than {MOST_PIPELINED} requests wait for their turn: ask after the answer"
                raise OverloadedError(msg)
        path, _, query = self.url.partition(b"?")
        name = path.decode("latin-1")
        found = self.collector.events_at(name) if self._direct and b"#" not in query else None
        method = self.parser.get_method().decode("latin-1")
        if found is not None and method in found.methods:
            headers = dict(self.headers)
            proxies, origin = self.collector.proxies, read_origin(headers.get(b"origin"))
            address, proxied = proxies.client(self._peer, self.headers), self._peer in proxies.networks
            head = Head(method, name, query, headers, origin, address, proxied)
            self._take(_Upload(self, found, head))
        else:
            self._hand_back()

    def _take(self, upload: _Upload) -> None:
        before, self.cycle = self.cycle, upload
        if before is None or before.response_complete:
            self._current = upload
            upload.begin()
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((upload, self.app))

    def _hand_back(self) -> None:
        """Go on with the request as uvicorn does; it makes its scope when a message begins, this class only here."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        super().on_headers_complete()

    def _count_waiting(self) -> None:
        waiting = len(self.pipeline)
        self.collector.connections.pipelined += waiting - self._waiting
        self._waiting = waiting

    def on_body(self, body: bytes) -> None:
        self._unread_bytes = 0
        if isinstance(self.cycle, _Upload):
            self.cycle.add(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._begun = False
        self._unread_bytes = 0
        if self._deadline is not None:
            self._watch()  # else the next of a row of pipelined requests would have less time
        if isinstance(self.cycle, _Upload):
            self.cycle.end()
        else:
            super().on_message_complete()

    # Time

    def _watch(self) -> None:
        """Give a request that is not here as a whole its time; what arrives in one piece never costs a timer."""
        self._hold_head()
        if self._begun and not self._ending:
            self.collector.events.bodies.show()
            if self._deadline is None:
                self._deadline = self.loop.call_later(self.collector.events.bodies.limits.body_seconds, self._too_late)
        elif self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _hold_head(self) -> None:
        """Count what is kept of a head that is arriving; where all is too much, those go that are quiet longest."""
        arriving = self._begun and not self._ending and self._in_head
        held = self._first_bytes + self._unread_bytes if arriving else 0  # rather too much than too little
        if held != self._held_bytes:
            bodies, more = self.collector.events.bodies, held - self._held_bytes
            self._held_bytes = held
            bodies.hold(more)
            while more > 0 and bodies.held > bodies.limits.reading_bytes and self.collector.connections.make_room():
                continue

    def _too_late(self) -> None:
        self._deadline = None
        upload = self.cycle
        if self._in_head or upload.response_complete:
            self._end_with(None)  # nobody to answer: a request that was never made, or a body nobody wants
        elif isinstance(upload, _Upload):
            upload.keep_alive = False
            upload.refuse(self.collector.events.bodies.too_slow())

    # Answers

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:  # noqa: ANN401 - uvicorn's, or an upload
        self._current = cycle
        if isinstance(cycle, _Upload):
            self.loop.call_soon(cycle.begin)  # not at once: thousands of refused ones may wait, each begun by the last
        else:
            super()._start_asgi_task(cycle, app)

    def send(self, answer: Answer, *, keep_alive: bool) -> None:
        """Write a whole answer."""
        lines = [STATUS_LINE[answer.status]]
        for name, value in (*self.server_state.default_headers, *answer.headers):
            lines += (name, b": ", value, b"\r\n")
        if not keep_alive:
            lines.append(b"connection: close\r\n")
        if answer.status == HTTPStatus.NO_CONTENT:
            lines.append(b"\r\n")
        else:
            lines.append(b"content-length: %d\r\n\r\n%b" % (len(answer.body), answer.body))
        self.transport.write(b"".join(lines))

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._count_waiting()
        self.collector.connections.answered(self, self.loop.time())
        if self.flow.write_paused or self._ending:
            self.flow.pause_reading()
        if self._ending:
            self._close_when_answered()

    def pause_writing(self) -> None:
        """Read no further while the client does not take its answers; called by the event loop."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        """Read on; called by the event loop."""
        super().resume_writing()
        if not self.pipeline and not self._ending:
            self.flow.resume_reading()

    # The end

    @property
    def busy(self) -> bool:
        """Whether a request that is here as a whole waits for its answer."""
        current = self._current
        if current is None or current.response_complete:
            return False
        return bool(current.body_complete) if isinstance(current, _Upload) else not current.more_body

    def abort(self) -> None:
        """Close it now, whatever waits to be sent."""
        self._end_with(None)
        self.transport.abort()

    def _end_with(self, error: RequestError | None) -> None:
        """Read nothing more; close after the answers under way and, if there is one, this error's."""
        self._give_up_arriving()
        self._ending = True
        self._hold_head()
        self.flow.pause_reading()
        if error is not None:
            self._last_words = refusal(error)
        self._close_when_answered()

    def _give_up_arriving(self) -> None:
        """Forget a request that will never be complete."""
        if not self._begun:
            return
        self._begun = False
        arriving = self.cycle
        if self._in_head or arriving.response_complete:
            return
        if isinstance(arriving, _Upload):
            arriving.drop()
        arriving.disconnected = True
        arriving.message_event.set()  # wakes the application of an ASGI request
        if self.pipeline and self.pipeline[0][0] is arriving:
            self.pipeline.popleft()
        elif self._current is arriving:
            self._current = None

    def _close_when_answered(self) -> None:
        if self.transport.is_closing() or (self._current is not None and not self._current.response_complete):
            return
        if self._last_words is not None:
            self.collector.finish(self._last_words, "other", perf_counter())
            self.send(self._last_words, keep_alive=False)
        self.transport.close()
