"""What stands between SDKs and the collector: it passes requests on, and fails in the ways that networks fail.

Faults befall requests with events alone, as a collector whose log is away would answer them; settings and preflights
always pass, except while the front is absent.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from collector.cors import cors_headers, read_origin
from collector.dialects.table import EVENT_PATHS, Paths
from tests.integration.embedded_process import free_ports

EVENTS = Paths(EVENT_PATHS)
SECONDS = 30
_OF_ONE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


class Fault(Enum):
    """What can befall a request."""

    UNAVAILABLE = "answered 503 with Retry-After: 1, not passed on"
    ANSWER_LOST = "passed on, then the connection is reset"
    RESET = "the connection is reset, not passed on"


@dataclass(frozen=True)
class Request:
    """One request with events, and what the SDK was answered: None where it got no answer."""

    method: str
    path: str
    body: bytes
    status: int | None


class CollectorFront:
    """Listens on a port of its own, in threads.

    Args:
        collector: its URL.
    """

    def __init__(self, collector: str) -> None:
        self.collector = urlsplit(collector)
        self.port = free_ports(1)[0]
        self.requests: list[Request] = []
        """With events, in the order of their answers."""
        self.failures: list[str] = []
        """What went wrong in the front itself."""
        self.connections: set[socket.socket] = set()
        self._faults: deque[Fault] = deque()
        self._server: ThreadingHTTPServer | None = None
        self.present()

    @property
    def url(self) -> str:
        """Where SDKs are pointed."""
        return f"http://localhost:{self.port}"

    def present(self) -> None:
        """Listen."""
        handler = type("Handler", (_Handler,), {"front": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        self._server.failures = self.failures
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def absent(self) -> None:
        """Refuse connections, and reset those that there are."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        for connection in list(self.connections):
            _reset(connection)

    def break_next(self, fault: Fault, times: int = 1) -> None:
        """Let something befall the next requests with events."""
        self._faults.extend([fault] * times)

    def heal(self) -> None:
        """Let nothing befall any more requests."""
        self._faults.clear()

    @property
    def healed(self) -> bool:
        """Whether all faults have befallen somebody."""
        return not self._faults

    def next_fault(self) -> Fault | None:
        """Return what befalls the request that has just come."""
        with suppress(IndexError):
            return self._faults.popleft()
        return None


class _Server(ThreadingHTTPServer):
    failures: list[str]
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request, client_address
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):  # the client has gone, or was made to
            self.failures.append(repr(error))


class _Handler(BaseHTTPRequestHandler):
    front: CollectorFront
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.front.connections.add(self.connection)

    def finish(self) -> None:
        self.front.connections.discard(self.connection)
        super().finish()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def _answer(self) -> None:
        body = self._body()
        has_events = self.command != "OPTIONS" and EVENTS.at(urlsplit(self.path).path) is not None
        fault = self.front.next_fault() if has_events else None
        status = None
        try:
            status = self._answer_with(fault, body)
        finally:  # a page may have gone before its answer, and the collector has the events all the same
            if has_events:
                one = Request(self.command, self.path, body, status)
                self.front.requests.append(one)

    do_GET = do_POST = do_OPTIONS = _answer  # noqa: N815 - names of the standard library

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer_with(self, fault: Fault | None, body: bytes) -> int | None:
        if fault is Fault.UNAVAILABLE:
            self._send(503, [*self._cors(), ("Retry-After", "1"), ("Content-Type", "application/json")], b"{}")
            return 503
        found = None if fault is Fault.RESET else self._passed_on(body)
        if fault is not None or found is None:
            self.close_connection = True
            _reset(self.connection)
            return None
        self._send(*found)
        return found[0]

    def _passed_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes] | None:
        """Return the collector's answer, None if it is not there or went away."""
        upstream = HTTPConnection(self.front.collector.hostname or "", self.front.collector.port, timeout=SECONDS)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _OF_ONE_CONNECTION}
        try:
            upstream.request(self.command, self.path, body or None, headers | {"Connection": "close"})
            answer = upstream.getresponse()
            kept = [one for one in answer.getheaders() if one[0].lower() not in _OF_ONE_CONNECTION]
            return answer.status, kept, answer.read()
        except (OSError, HTTPException):
            return None
        finally:
            upstream.close()

    def _cors(self) -> list[tuple[str, str]]:
        origin = self.headers.get("Origin")
        headers = cors_headers(read_origin(origin.encode() if origin is not None else None), allowed=True)
        return [(name.decode(), value.decode()) for name, value in headers]

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _reset(connection: socket.socket) -> None:
    """Close so that the other side gets a reset instead of an end."""
    with suppress(OSError):  # it is closed already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        descriptor = connection.detach()
        if descriptor >= 0:
            os.close(descriptor)


def wait_for(condition: Callable[[], object], what: Callable[[], object], seconds: float = 60) -> None:
    """Poll until `condition` holds; fail with what `what` returns after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what()}"
        time.sleep(0.02)
