"""The load on a whole deployment: visits of ten numbered events over kept-alive connections, at a given rate.

`python -m bench.system_load PORT` reads lines `events-a-second seconds`, posts that much, and writes a line of JSON
for each. It goes on from one line to the next: the visitors are the same, their events are counted on.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, Self, cast

import uvloop

from bench.collector_load import EVENTS_A_REQUEST, MARK, write_bodies

CONNECTIONS: Final = 64
_VISIT: Final = b"\x02"
"""Where a visitor's number of this visit goes: the digits before the event's own in `seq`."""
_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """One kept-alive connection to a collector; one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._received = b""

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect to a collector on loopback."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    async def post(self, body: bytes) -> None:
        """Post a body, and return when it is acknowledged.

        Raises:
            RuntimeError: if the answer is another one than 200.
        """
        if self._transport is None:
            msg = "not connected"
            raise RuntimeError(msg)
        self._answer = asyncio.get_running_loop().create_future()
        head = f"POST /v1/events?key=demo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)
        answer = await self._answer
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer.decode())

    def close(self) -> None:
        """Give the connection up."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102 - asyncio's
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by isinstance

    def data_received(self, data: bytes) -> None:  # noqa: D102
        self._received += data
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = _LENGTH.search(head)
        if len(rest) >= (int(length[1]) if length else 0) and self._answer is not None:
            self._received = b""
            self._answer.set_result(head + found + rest)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the collector has closed the connection"))


class Visitors:
    """Who visits: each request is the next visitor's next ten events."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "bodies"
            write_bodies(path)
            numbered = re.sub(rb'"seq":(\d)', rb'"seq":%s\1' % _VISIT, path.read_bytes())
        self._bodies = numbered.splitlines()
        self._run = secrets.token_hex(4)
        self._requests = 0

    def body(self) -> bytes:
        """Return the next request's body."""
        number, self._requests = self._requests, self._requests + 1
        visit, visitor = divmod(number, len(self._bodies))
        fresh = f"{self._run}-{number}".encode()
        return self._bodies[visitor].replace(MARK.encode(), fresh).replace(_VISIT, b"%d" % (visit + 1))


async def post_visits(
    connections: list[Connection], visitors: Visitors, rate: float, seconds: float
) -> dict[str, float]:
    """Post at a rate as far as the collector allows, and return what was posted and how long it took.

    Args:
        connections: open ones.
        visitors: whose events.
        rate: events a second.
        seconds: how long.
    """
    begun, cpu = time.monotonic(), time.process_time()
    pause = EVENTS_A_REQUEST * len(connections) / rate
    posted = 0

    async def post(connection: Connection, due: float) -> None:
        nonlocal posted
        while (now := time.monotonic()) < begun + seconds:
            if due > now:
                await asyncio.sleep(due - now)
            await connection.post(visitors.body())
            posted += EVENTS_A_REQUEST
            due = max(due + pause, time.monotonic() - pause)  # late by more than a turn: what was missed is not made up

    await asyncio.gather(
        *(post(connection, begun + pause * n / len(connections)) for n, connection in enumerate(connections))
    )
    return {"events": posted, "seconds": time.monotonic() - begun, "cpu_seconds": time.process_time() - cpu}


async def _serve(port: int) -> None:
    visitors = Visitors()
    connections = [await Connection.open(port) for _ in range(CONNECTIONS)]
    while line := await asyncio.to_thread(sys.stdin.readline):
        rate, seconds = map(float, line.split())
        found: dict[str, Any] = await post_visits(connections, visitors, rate, seconds)
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()
    for connection in connections:
        connection.close()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
