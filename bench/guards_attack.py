"""What a collector has to stand: slow connections and floods of what is never accepted, at rates that are given.

Run as `python -m bench.guards_attack PORT CONNECTIONS`: prints a line when everything has begun, and goes on until its
input ends. Each kind comes from loopback addresses of its own.
"""

from __future__ import annotations

import asyncio
import gzip
import random
import sys
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import uvloop

from collector.guards.connections import open_files

SLOW_ADDRESSES: Final = 10
"""Each has so many of the slow connections that it stays below `connections.of_address`."""
SLOW_SECONDS: Final = 5.0
"""Between two bytes of a slow connection."""
OPENING_A_SECOND: Final = 1000

_RANDOM: Final = random.Random(7)
_HEAD: Final = b"POST /v1/events HTTP/1.1\r\nhost: x\r\n"


def _bomb() -> bytes:
    return gzip.compress(bytes(64 * 1024 * 1024), 9)


def _post(path: bytes, body: bytes, headers: bytes = b"") -> bytes:
    return b"POST %b HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n%b" % (path, headers, len(body), body)


def floods() -> dict[str, tuple[float, bytes]]:
    """Return, by name, requests a second and one request."""
    garbage = bytes(_RANDOM.randrange(256) for _ in range(2000))
    large = zlib.compress(garbage) * 5000  # 10 MB
    return {
        "no key": (100, _post(b"/v1/events", b'[{"type":"page"}]')),
        "garbage": (50, _post(b"/e/", garbage)),
        "no http": (50, garbage),
        "too large": (1, _post(b"/e/", large)),
        "bomb": (5, _post(b"/e/", _bomb(), b"content-encoding: gzip\r\n")),
        "huge header": (20, _HEAD + b"cookie: " + b"x" * 100_000 + b"\r\n\r\n"),
    }


async def _slow(port: int, address: str, opened: asyncio.Semaphore) -> None:
    """Hold one connection with a head that never ends, a byte at a time; open another one when it is closed."""
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
            try:
                writer.write(_HEAD + b"x-slow: ")
                opened.release()
                while not reader.at_eof():
                    with suppress(TimeoutError):
                        await asyncio.wait_for(reader.read(1), SLOW_SECONDS * (0.5 + _RANDOM.random()))
                    writer.write(b"x")
                    await writer.drain()
            finally:
                writer.transport.abort()
        await asyncio.sleep(1)


async def _flood(port: int, address: str, per_second: float, request: bytes) -> None:
    """Send one request after the other, each on a connection of its own as its end is often all there is to read."""
    while True:
        started = asyncio.get_running_loop().time()
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
            try:
                writer.write(request)
                with suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1024), 2)
            finally:
                writer.transport.abort()
        spent = asyncio.get_running_loop().time() - started
        await asyncio.sleep(max(0.0, 1 / per_second - spent))


async def attack(port: int, connections: int, begun: Callable[[], None], until: Awaitable[object]) -> None:
    """Attack until something has happened.

    Args:
        port: of the collector.
        connections: slow ones.
        begun: called once all are open.
        until: ends it.
    """
    tasks = [
        asyncio.create_task(_flood(port, f"127.0.0.{100 + at}", per_second, request))
        for at, (per_second, request) in enumerate(floods().values())
    ]
    opened = asyncio.Semaphore(0)
    for number in range(connections):
        tasks.append(asyncio.create_task(_slow(port, f"127.0.0.{2 + number % SLOW_ADDRESSES}", opened)))
        if number % 100 == 0:
            await asyncio.sleep(100 / OPENING_A_SECOND)
    for _ in range(connections):
        await opened.acquire()
    begun()
    try:
        await until
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _main(port: int, connections: int) -> None:
    input_ends = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await attack(port, connections, lambda: print("begun", flush=True), input_ends)


if __name__ == "__main__":
    open_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(int(sys.argv[1]), int(sys.argv[2])))
