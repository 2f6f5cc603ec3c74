"""The protocol class on raw sockets: what clients, proxies and the network do to a connection."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from collector.settings import Limits
from tests.integration.collector_server import DEADLINE_SECONDS, Served, serve_collector

MIB = 1024 * 1024
LIMITS = Limits(body_bytes=2 * MIB, reading_bytes=3 * MIB, body_seconds=0.5)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serve_collector(tmp_path, direct=True, limits=LIMITS) as running:
        yield running


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, served: Served) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", served.port))

    async def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))
        await self.writer.drain()

    async def answer(self, *, bodyless: bool = False) -> tuple[int, dict[str, str], Any]:
        """Return status, headers and JSON of the next answer."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            status, *lines = head.strip().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            body = await self.reader.readexactly(0 if bodyless else int(headers.get("content-length", 0)))
        return int(status.split()[1]), headers, json.loads(body) if body else None

    async def ended(self) -> bytes:
        """Return what comes before the server closes."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            rest = await self.reader.read()
        self.writer.close()
        return rest


def head(length: int | None, *, path: str = "/v1/events?key=pk", more: str = "", version: str = "1.1") -> bytes:
    framed = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"POST {path} HTTP/{version}\r\nHost: x\r\n{framed}\r\n{more}\r\n".encode()


def body(*names: str) -> bytes:
    return json.dumps([{"id": name, "type": "page", "anonymous_id": f"a-{name}"} for name in names]).encode()


def post(*names: str, **given: Any) -> bytes:
    return head(len(body(*names)), **given) + body(*names)


def chunked(content: bytes, size: int) -> bytes:
    parts = [content[at : at + size] for at in range(0, len(content), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


async def until(served: Served, name: str, value: float, **labels: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while served.metric(name, **labels) != value:
        assert time.monotonic() < deadline, (name, served.metric(name, **labels))
        await asyncio.sleep(0.01)


async def test_pipelined_requests_of_every_kind_are_answered_in_order(served: Served) -> None:
    client = await Connection.to(served)
    health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    refused = post("no", path="/v1/events?key=nope")
    await client.send(post("a", "b"), health, refused, head(None), chunked(body("c"), 7), health, post("d"))
    seen = [await client.answer() for _ in range(6)]
    assert [status for status, _, _ in seen] == [200, 200, 401, 200, 200, 200]
    assert [found.get("accepted") for _, _, found in seen] == [2, None, None, 1, None, 1]
    await client.send(post("e"))
    assert (await client.answer())[2]["accepted"] == 1
    client.writer.close()
    assert [json.loads(line)["id"] for line in served.lines()] == ["a", "b", "c", "d", "e"]
    assert served.metric("requests_total", route="events", status="200") == 4
    assert served.metric("requests_total", route="events", status="401") == 1


async def test_thousands_of_pipelined_requests(served: Served) -> None:
    client = await Connection.to(served)
    refused = head(0, path="/v1/events")
    await client.send(post("first"), refused * 3000, post("last"))
    assert (await client.answer())[0] == 200
    for _ in range(3000):
        assert (await client.answer())[0] == 401
    assert (await client.answer())[0] == 200
    client.writer.close()


async def test_a_request_in_single_bytes(served: Served) -> None:
    client = await Connection.to(served)
    for at in range(len(post("a"))):
        await client.send(post("a")[at : at + 1])
        await asyncio.sleep(0)
    assert (await client.answer())[2]["accepted"] == 1
    client.writer.close()


async def test_a_slow_body_is_given_up_and_the_client_keeps_its_events(served: Served) -> None:
    client = await Connection.to(served)
    await client.send(head(1000), b"[{")
    status, headers, found = await client.answer()
    assert (status, found["code"], headers["connection"]) == (503, "overloaded", "close")
    assert "retry-after" in headers
    assert await client.ended() == b""


async def test_a_slow_head_is_hung_up_on(served: Served) -> None:
    client = await Connection.to(served)
    await client.send(b"POST /v1/events HTTP/1.1\r\nHo")
    assert await client.ended() == b""


async def test_slow_requests_one_after_the_other_have_their_time_each(served: Served) -> None:
    client = await Connection.to(served)
    await client.send(post("a"), post("b")[:40])
    for name in "bcd":
        await asyncio.sleep(LIMITS.body_seconds * 0.6)
        await client.send(post(name)[40:], post(chr(ord(name) + 1))[:40])
    assert [(await client.answer())[0] for _ in range(4)] == [200] * 4
    client.writer.close()


@pytest.mark.parametrize("sent", [head(1000) + b"[{", head(None) + b"5\r\n[{", head(None)[:30]])
async def test_a_body_cut_off_harms_nobody(served: Served, sent: bytes) -> None:
    for half in (True, False):
        client = await Connection.to(served)
        await client.send(post("a" if half else "b"), sent)
        assert (await client.answer())[0] == 200
        if half:
            client.writer.write_eof()
            assert await client.ended() == b""
        client.writer.close()
    await until(served, "reading_bytes", 0)


async def test_half_closed_clients_get_every_answer(served: Served) -> None:
    client = await Connection.to(served)
    await client.send(post("a"), b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", post("b"), head(9))
    client.writer.write_eof()
    rest = await client.ended()
    assert re.findall(rb"HTTP/1.1 (\d+)", rest) == [b"200"] * 3
    assert len(served.lines()) == 2


@pytest.mark.parametrize("framed", [True, False])
async def test_too_large_bodies(served: Served, framed: bool) -> None:  # noqa: FBT001 - a parameter of the test
    client = await Connection.to(served)
    large = b" " * (LIMITS.body_bytes + 1)
    await client.send(*((head(len(large)), large) if framed else (head(None), chunked(large, 60_000))))
    status, _, found = await client.answer()
    assert (status, found["code"]) == (413, "too_large")
    await client.send(post("a"))
    assert (await client.answer())[0] == 200
    client.writer.close()


async def test_an_endless_body_that_was_refused_is_hung_up_on(served: Served) -> None:
    client = await Connection.to(served)
    await client.send(head(None, path="/v1/events?key=nope"), b"5\r\nabcde\r\n")
    assert (await client.answer())[0] == 401
    assert await client.ended() == b""


async def test_bodies_together_are_limited(served: Served) -> None:
    clients = [await Connection.to(served) for _ in range(2)]
    for client in clients:
        await client.send(head(2 * MIB), b" " * (2 * MIB - 9))
    answers = [await client.answer() for client in clients]
    assert [(status, found["code"]) for status, _, found in answers] == [(503, "overloaded")] * 2
    for client in clients:
        client.writer.close()
    await until(served, "reading_bytes", 0)


async def test_expect_continue(served: Served) -> None:
    client = await Connection.to(served)
    expecting = head(len(body("b")), more="Expect: 100-continue\r\n")
    await client.send(post("a"), expecting)
    assert (await client.answer())[0] == 200
    assert (await client.answer())[0] == 100
    await client.send(body("b"))
    assert (await client.answer())[0] == 200
    await client.send(expecting.replace(b"key=pk", b"key=no"))
    status, headers, _ = await client.answer()
    assert (status, headers["connection"]) == (401, "close")
    assert await client.ended() == b""


@pytest.mark.parametrize(("version", "more"), [("1.0", ""), ("1.1", "Connection: close\r\n")])
async def test_connections_that_end_with_the_answer(served: Served, version: str, more: str) -> None:
    client = await Connection.to(served)
    await client.send(post("a", version=version, more=more))
    status, headers, _ = await client.answer()
    assert (status, headers["connection"]) == (200, "close")
    assert await client.ended() == b""


async def test_other_methods_and_paths_go_the_asgi_way(served: Served) -> None:
    client = await Connection.to(served)
    for line, status in (
        (b"OPTIONS /v1/events", 204),
        (b"GET /v1/events", 405),
        (b"POST /nothing", 404),
        (b"POST /v1%2Fevents?key=pk", 400),
        (b"POST http://x/v1/events?key=pk", 400),
        (b"POST /v1/events?key=pk#x", 400),
        (b"POST /v1/events?key=pk", 400),
    ):
        await client.send(line, b" HTTP/1.1\r\nHost: x\r\nOrigin: https://a.b\r\nContent-Length: 0\r\n\r\n")
        found, headers, _ = await client.answer()
        assert (line, found) == (line, status)
        assert headers["access-control-allow-origin"] == "https://a.b"
    await client.send(b"HEAD /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await client.answer(bodyless=True))[0] == 405
    client.writer.close()


async def test_an_upgrade_that_nobody_offers_is_ignored(served: Served) -> None:
    """Java's HttpClient asks for HTTP/2 in the first request of every connection without TLS."""
    client = await Connection.to(served)
    upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
    await client.send(post("a", more=upgrade), post("b"))
    await client.send(post("c", more=upgrade)[:-9])
    await client.send(post("c", more=upgrade)[-9:], b"GET /healthz HTTP/1.1\r\nHost: x\r\n", upgrade.encode(), b"\r\n")
    assert [(await client.answer())[0] for _ in range(4)] == [200] * 4
    client.writer.close()


async def test_many_headers(served: Served) -> None:
    client = await Connection.to(served)
    cookies = "".join(f"Cookie-{at}: {'x' * 100}\r\n" for at in range(500))
    await client.send(post("a", more=cookies))
    assert (await client.answer())[0] == 200
    await client.send(post("b"), post("c", more=f"Cookie: {'x' * LIMITS.head_bytes}\r\n"))
    assert (await client.answer())[0] == 200
    status, headers, found = await client.answer()
    assert (status, found["code"], headers["connection"]) == (431, "too_large_head", "close")
    client.writer.close()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"NOPE\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\n\0: x\r\n",
    ],
)
async def test_garbage_is_answered_in_json_after_what_came_before(served: Served, garbage: bytes) -> None:
    client = await Connection.to(served)
    await client.send(post("a"), garbage)
    assert (await client.answer())[0] == 200
    status, headers, found = await client.answer()
    assert (status, found["code"], headers["connection"]) == (400, "unreadable_request", "close")
    assert await client.ended() == b""
    assert served.metric("requests_total", route="other", status="400") == 1


async def test_garbage_in_a_chunked_body(served: Served) -> None:
    client = await Connection.to(served)
    await client.send(head(None), b"5\r\n[1,2,\r\nzz\r\n")
    assert (await client.answer())[2]["code"] == "unreadable_request"
    assert await client.ended() == b""
    await until(served, "reading_bytes", 0)


async def test_a_client_that_does_not_read_is_not_read_from_either(served: Served) -> None:
    """Its answers would pile up in memory."""
    client = await Connection.to(served)
    sent = 0
    try:
        async with asyncio.timeout(1):
            while True:
                await client.send(head(0, path="/v1/events") * 500)
                sent += 500
    except TimeoutError:
        pass
    assert served.metric("requests_total", route="events", status="401") < sent
    client.writer.transport.abort()
    with suppress(ConnectionError):
        await client.writer.wait_closed()


async def test_the_stop_answers_what_is_under_way_and_closes_the_rest(tmp_path: Path) -> None:
    async with serve_collector(tmp_path, direct=True) as served:
        idle, busy, reading = [await Connection.to(served) for _ in range(3)]
        await idle.send(post("a"))
        assert (await idle.answer())[0] == 200
        await reading.send(head(len(body("c"))), body("c")[:5])
        await until(served, "reading_bytes", 5)
        await busy.send(post("b"))
        served.server.should_exit = True
        assert (await busy.answer())[0] == 200
        assert await idle.ended() == b""
        await reading.send(body("c")[5:])
        status, headers, _ = await reading.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await reading.ended() == b""
        await busy.ended()
    assert len(served.lines()) == 3
