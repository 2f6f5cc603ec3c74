"""The same requests over real connections: split, pipelined, chunked, cut off, and as HTTP that is none."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import uvicorn

from collector.protocol import ingest_protocol
from tests.fuzz.byte_mutations import mutate_bytes
from tests.fuzz.judge import judge_lines
from tests.fuzz.mutator import Case, Mutator
from tests.fuzz.request import Sent
from tests.fuzz.target import NOW, Target

TOGETHER: Final = 8
"""Connections at a time."""
DEADLINE_SECONDS: Final = 60
"""A connection whose client has said everything is answered and closed; a busy machine needs more than an idle one."""
_MOST_REQUESTS: Final = 4
_STATUS: Final = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
_PLAIN_TARGET: Final = re.compile(rb"/[!-~]*")
_ODD_LENGTHS: Final = (
    b"-1",
    b"0",
    b"1",
    b"99999999999999999999",
    b"+5",
    b"0x10",
    b"5, 5",
    b"5\r\ncontent-length: 6",
    b"",
)


class Conversation(NamedTuple):
    """What is written to one connection, part by part.

    `requests` is how many answers there must be, None where the bytes are no row of requests any more.
    """

    parts: list[bytes]
    requests: int | None
    sent: int


def conversation(mutator: Mutator, seed: int, number: int) -> Conversation:
    """Return what is said on the connection of a number."""
    rng = random.Random(f"{seed}/{number}")
    cases = [mutator.case(number * _MOST_REQUESTS + at) for at in range(rng.choice((1, 1, 2, _MOST_REQUESTS)))]
    whole, plain = b"", True
    for case in cases:
        written, is_plain = _written(rng, case)
        whole += written
        plain = plain and is_plain
    if rng.random() < 0.4:
        whole, plain = mutate_bytes(rng, whole, [case.request.body or b"GET / HTTP/1.1\r\n" for case in cases]), False
    places = sorted(rng.randrange(len(whole) + 1) for _ in range(rng.choice((0, 0, 1, 3, 9))))
    parts = [whole[begin:end] for begin, end in zip([0, *places], [*places, len(whole)], strict=True)]
    return Conversation(parts, len(cases) if plain else None, len(cases))


def _written(rng: random.Random, case: Case) -> tuple[bytes, bool]:
    """Return a request as HTTP, and whether it is sound."""
    request = case.request
    target = request.path.encode("latin-1", "replace") + (b"?" + request.query if request.query else b"")
    headers = [(b"host", b"collect.example"), *request.headers]
    sound = "head" not in case.done and _PLAIN_TARGET.fullmatch(target) is not None
    length, body = b"%d" % len(request.body), request.body
    match rng.randrange(12):
        case 0:
            length, sound = rng.choice(_ODD_LENGTHS), False
        case 1:
            headers.append((b"connection", rng.choice((b"close", b"upgrade", b"keep-alive, upgrade"))))
            headers.append((b"upgrade", b"h2c"))
            sound = False
        case 2:
            headers.append((b"expect", b"100-continue"))
            sound = False
        case 3 | 4:
            return _head(request, target, [*headers, (b"transfer-encoding", b"chunked")]) + _chunked(rng, body), sound
        case _:
            pass
    return _head(request, target, [*headers, (b"content-length", length)]) + body, sound


def _head(request: Sent, target: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    lines = [b"%b %b HTTP/1.1" % (request.method.encode(), target), *(b"%b: %b" % header for header in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _chunked(rng: random.Random, body: bytes) -> bytes:
    out = b""
    while body:
        size = rng.randrange(1, len(body) + 1)
        out += b"%x\r\n%b\r\n" % (size, body[:size])
        body = body[size:]
    return out + b"0\r\n\r\n"


class Wire:
    """A collector behind uvicorn on loopback; `complaints` is what nobody caught."""

    def __init__(self, target: Target, port: int) -> None:
        self.target = target
        self.port = port
        self.complaints: list[str] = []

    async def together(self, said: list[Conversation]) -> Iterator[str]:
        """Have conversations at the same time, and yield what was wrong."""
        answers = await asyncio.gather(*map(self._talk, said))
        problems = [problem for one, answer in zip(said, answers, strict=True) for problem in _judged(one, answer)]
        lines, _ = self.target.sink.take()
        problems += judge_lines(lines, NOW)
        problems += self.complaints
        self.complaints.clear()
        if self.target.app.events.bodies.held:
            problems.append(f"{self.target.app.events.bodies.held} bytes are held, and nobody sends")
        return iter(problems)

    async def _talk(self, said: Conversation) -> bytes | None:
        """Return all that was answered; None if the connection did not end in time."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        heard = asyncio.ensure_future(reader.read())
        try:
            for part in said.parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            writer.write_eof()
            async with asyncio.timeout(DEADLINE_SECONDS):
                return await heard
        except TimeoutError:
            return None
        except OSError:  # refused and closed while we were still talking
            return b""
        finally:
            heard.cancel()
            writer.close()
            await asyncio.gather(heard, return_exceptions=True)


def _judged(said: Conversation, answer: bytes | None) -> Iterator[str]:
    if answer is None:
        yield "the connection was never answered, or never closed"
        return
    statuses = [int(status) for status in _STATUS.findall(answer)]
    if answer and not answer.startswith(b"HTTP/1.1 "):
        yield f"this is no answer: {answer[:200]!r}"
    if any(status >= 500 for status in statuses):
        yield f"answered with {statuses}: {answer[:600]!r}"
    if said.requests is not None and answer and len(statuses) != said.requests:
        yield f"{said.requests} requests, answered with {statuses}"


@asynccontextmanager
async def served(target: Target) -> AsyncIterator[Wire]:
    """Serve a collector on loopback as `phasewatch collector` does."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    wire = Wire(target, listener.getsockname()[1])
    config = uvicorn.Config(
        target.app,
        http=ingest_protocol(target.app),
        log_config=None,
        access_log=False,
        proxy_headers=False,
        ws="none",
        lifespan="off",
    )
    server = uvicorn.Server(config)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: wire.complaints.append(f"nobody caught {context}"))
    log, logger = _Log(wire.complaints), logging.getLogger("uvicorn.error")
    logger.addHandler(log)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        deadline = loop.time() + DEADLINE_SECONDS
        while not server.started:
            if loop.time() > deadline:
                msg = "the server does not start"
                raise TimeoutError(msg)
            await asyncio.sleep(0.01)
        yield wire
    finally:
        server.should_exit = True
        await running
        logger.removeHandler(log)
        loop.set_exception_handler(None)
        listener.close()


class _Log(logging.Handler):
    def __init__(self, into: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._into = into

    def emit(self, record: logging.LogRecord) -> None:
        self._into.append(f"logged: {record.getMessage()} {record.exc_info}")
