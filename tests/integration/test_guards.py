"""Guards on raw sockets: what is too much is bounded, and whoever is honest is answered all the same."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

import collector.protocol
from bench.guards import measure
from collector.settings import AddressLimits, ConnectionLimits, Limits
from tests.integration.collector_server import DEADLINE_SECONDS, Served, serve_collector

MIB = 1024 * 1024
HEAD = b"POST /v1/events?key=pk HTTP/1.1\r\nhost: x\r\n"


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *parts: bytes) -> None:
        with suppress(ConnectionError):
            for part in parts:
                self.writer.write(part)
                await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        async with asyncio.timeout(DEADLINE_SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            status, *lines = head.strip().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(status.split()[1]), headers, json.loads(body)

    async def ended(self) -> None:
        """Wait until the server has closed it."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            with suppress(ConnectionError):
                await self.reader.read()
        self.writer.close()

    async def close(self) -> None:
        self.writer.transport.abort()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


async def connect(served: Served, address: str = "127.0.0.1") -> Connection:
    return Connection(*await asyncio.open_connection("127.0.0.1", served.port, local_addr=(address, 0)))


@asynccontextmanager
async def connected(served: Served, count: int, address: str = "127.0.0.1") -> AsyncIterator[list[Connection]]:
    found = [await connect(served, address) for _ in range(count)]
    yield found
    for one in found:
        await one.close()


def post(name: str, more: bytes = b"") -> bytes:
    body = json.dumps([{"id": name, "type": "page", "anonymous_id": f"a-{name}"}]).encode()
    return HEAD + more + b"content-length: %d\r\n\r\n%b" % (len(body), body)


async def posted(client: Connection, name: str, more: bytes = b"") -> int:
    await client.send(post(name, more))
    return (await client.answer())[0]


async def until(found: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not found():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "begin",
    [
        b"POST /v1/events HTTP/1.1\r\ncookie: ",
        b"POST /v1/events HTTP/1.1\r\n",
        b"POST /",
        HEAD + b"transfer-encoding: chunked\r\n\r\n5;",
        HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\ntrailer: ",
    ],
)
async def test_what_never_ends_is_not_kept(tmp_path: Path, begin: bytes) -> None:
    """The parser keeps a header's value until its end, however long that takes."""
    async with serve_collector(tmp_path, direct=True) as served, connected(served, 1) as (client,):
        await client.send(begin)
        for _ in range(40):
            await client.send(b"x" * 10_000)
        status, headers, found = await client.answer()
        assert (status, found["code"], headers["connection"]) == (431, "too_large_head", "close")


async def test_who_began_first_makes_room_for_the_bodies_of_others(tmp_path: Path) -> None:
    limits = Limits(body_bytes=2 * MIB, reading_bytes=3 * MIB)
    async with serve_collector(tmp_path, direct=True, limits=limits) as served, connected(served, 4) as clients:
        *slow, honest = clients
        for client in slow:
            await client.send(HEAD + b"content-length: %d\r\n\r\n" % (2 * MIB), b" " * (MIB - 1000))
        await until(lambda: served.metric("reading_bytes") > 2 * MIB, "three of them fit")
        large = b"[" + b" " * (MIB + 50_000) + post("1").partition(b"\r\n\r\n")[2][1:]
        await honest.send(HEAD + b"content-length: %d\r\n\r\n%b" % (len(large), large))
        assert (await honest.answer())[2]["accepted"] == 1
        status, headers, found = await slow[0].answer()
        assert (status, found["code"], headers["connection"]) == (503, "overloaded", "close")


async def test_heads_that_dribble_count_among_what_is_read(tmp_path: Path) -> None:
    limits = Limits(reading_bytes=MIB)
    async with serve_collector(tmp_path, direct=True, limits=limits) as served, connected(served, 30) as slow:
        for client in slow:
            await client.send(HEAD + b"cookie: ", b"x" * 50_000)
        await until(lambda: served.metric("connections_closed_total", reason="room") >= 5, "the first make room")
        assert served.metric("reading_bytes") <= MIB
        await slow[0].ended()
        async with connected(served, 1) as (honest,):
            assert await posted(honest, "1") == 200


async def test_an_address_has_so_many_connections(tmp_path: Path) -> None:
    more = {"connections": ConnectionLimits(of_address=20), "addresses": AddressLimits(exempt=())}
    async with serve_collector(tmp_path, direct=True, more=more) as served, connected(served, 20, "127.0.0.2"):
        await until(lambda: served.metric("connections_open") == 20, "they are open")
        async with connected(served, 5, "127.0.0.2") as too_many:
            for one in too_many:
                await one.ended()
        assert served.metric("connections_closed_total", reason="address") == 5
        async with connected(served, 1, "127.0.0.3") as (honest,):
            assert await posted(honest, "1") == 200


async def test_the_one_that_is_quiet_longest_makes_room(tmp_path: Path) -> None:
    more = {"connections": ConnectionLimits(most=100, idle_seconds=60)}
    async with serve_collector(tmp_path, direct=True, more=more) as served, connected(served, 1) as (honest,):
        async with connected(served, 99) as slow:
            await until(lambda: served.metric("connections_open") == 100, "they are open")
            for client in slow:
                await client.send(HEAD)
            assert await posted(honest, "1") == 200
            async with connected(served, 1) as (other,):
                assert await posted(other, "2") == 200
                await slow[0].ended()
                assert await posted(honest, "3") == 200
        assert served.metric("connections_closed_total", reason="room") == 1


async def test_who_says_nothing_or_takes_nothing_is_hung_up_on(tmp_path: Path) -> None:
    more = {"connections": ConnectionLimits(idle_seconds=1)}
    limits = Limits(body_seconds=0.5)
    async with (
        serve_collector(tmp_path, direct=True, more=more, limits=limits) as served,
        connected(served, 2) as (silent, deaf),
    ):
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                while True:
                    await deaf.send(b"POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n" * 500)
        await silent.ended()
        await until(lambda: served.metric("connections_open") == 0, "both are closed")
        assert served.metric("connections_closed_total", reason="quiet") == 2


async def test_pipelined_requests_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector.protocol, "MOST_PIPELINED", 100)
    async with serve_collector(tmp_path, direct=True) as served, connected(served, 2) as (greedy, honest):
        await greedy.send(post("1") + b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n" * 1000)
        assert (await greedy.answer())[0] == 200
        await greedy.ended()
        assert await posted(honest, "2") == 200


async def test_the_rate_of_an_address_behind_a_proxy_of_ours(tmp_path: Path) -> None:
    more = {
        "addresses": AddressLimits(requests_per_second=0.001, burst_seconds=2500, exempt=()),
        "proxies": (ip_network("127.0.0.1/32"),),
    }
    async with serve_collector(tmp_path, direct=True, more=more) as served, connected(served, 1) as (proxy,):
        one, other = b"x-forwarded-for: 198.51.100.1\r\n", b"x-forwarded-for: 9.9.9.9, 198.51.100.2\r\n"
        assert [await posted(proxy, str(at), one) for at in range(5)] == [200, 200, 200, 429, 429]
        assert await posted(proxy, "6", other) == 200
        await proxy.send(b"GET /nowhere HTTP/1.1\r\nhost: x\r\n" + one + b"\r\n")
        status, headers, found = await proxy.answer()
        assert (status, found["code"], headers["retry-after"]) == (429, "address_rate", "30")
        assert served.metric("requests_refused_total", route="events", code="address_rate") == 2
        assert served.metric("requests_refused_total", route="other", code="address_rate") == 1
        async with connected(served, 1, "127.0.0.9") as (stranger,):
            assert [await posted(stranger, f"s{at}", other) for at in range(4)] == [200, 200, 200, 429]


async def test_bombs_cost_their_address_what_they_take(tmp_path: Path) -> None:
    more = {"addresses": AddressLimits(events_per_second=1, burst_seconds=1000, exempt=())}
    bomb = gzip.compress(bytes(20 * MIB))
    request = HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n%b" % (len(bomb), bomb)
    async with serve_collector(tmp_path, direct=True, more=more) as served, connected(served, 1) as (client,):
        seen = []
        for _ in range(3):
            await client.send(request)
            seen.append((await client.answer())[0])
        assert seen == [413, 429, 429]
        async with connected(served, 1, "127.0.0.9") as (honest,):
            assert await posted(honest, "1") == 200


async def test_an_address_is_suppressed_within_seconds(tmp_path: Path) -> None:
    path = tmp_path / "suppressed"
    path.write_text("", encoding="utf-8")
    more = {"suppressed_file": path, "proxies": (ip_network("127.0.0.1/32"),)}
    forwarded = b"x-forwarded-for: 203.0.113.9\r\n"
    async with serve_collector(tmp_path, direct=True, more=more) as served, connected(served, 1) as (client,):
        assert await posted(client, "first", forwarded) == 200
        path.write_text("address 203.0.113.0/24\n", encoding="utf-8")
        deadline, number = time.monotonic() + DEADLINE_SECONDS, 0
        while not served.metric("events_rejected_total", source="web", reason="suppressed"):
            assert time.monotonic() < deadline
            number += 1
            assert await posted(client, f"n{number}", forwarded) == 200
            await asyncio.sleep(0.05)
        taken = len(served.lines())
        assert await posted(client, "later", forwarded) == 200
        assert await posted(client, "other", b"x-forwarded-for: 203.0.114.9\r\n") == 200
        assert len(served.lines()) == taken + 1


def test_honest_clients_beside_an_attack() -> None:
    """The short form of `make bench ARGS="guards"`, with bounds that only a fault passes, however busy the machine."""
    found = measure(connections=300, rounds=1, seconds=3, clients=10)
    assert found["attacked_not_200"] == 0
    assert found["attacked_p50_ms"] < 50 * found["alone_p50_ms"] + 2000
    assert found["memory_most_mb"] < found["memory_before_mb"] + 200
