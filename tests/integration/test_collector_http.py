"""The collector behind a real uvicorn on a loopback port: what only a real connection shows."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.collector_server import DEADLINE_SECONDS, Served, serve_collector


@pytest.fixture(params=["asgi", "protocol"])
async def served(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Served]:
    """The collector through uvicorn's own ASGI cycle, and through the protocol class that does without."""
    async with serve_collector(tmp_path, direct=request.param == "protocol") as running:
        yield running


def event(name: str) -> dict[str, str]:
    return {"id": name, "type": "page", "anonymous_id": f"a-{name}"}


async def test_many_clients_at_once_share_fsyncs_and_lose_nothing(served: Served) -> None:
    async with httpx.AsyncClient(base_url=served.public, params={"key": "pk"}) as client:

        async def visitor(name: int) -> None:
            for at in range(10):
                body = {"events": [event(f"{name}-{at}-{n}") for n in range(5)]}
                answer = await client.post("/v1/events", json=body)
                assert answer.json()["accepted"] == 5

        await asyncio.gather(*(visitor(name) for name in range(20)))
    ids = [json.loads(line)["id"] for line in served.lines()]
    assert len(ids) == len(set(ids)) == 1000
    writes = served.registry.get_sample_value("phasewatch_collector_sink_write_seconds_count", {"result": "ok"})
    assert writes is not None
    assert writes < 200


async def test_the_stop_of_the_server_keeps_what_was_answered(served: Served) -> None:
    headers = {"authorization": "Bearer sk", "content-encoding": "gzip"}
    body = gzip.compress(json.dumps([event("one")]).encode())
    async with httpx.AsyncClient(base_url=served.public) as client:
        assert (await client.post("/v1/events", content=body, headers=headers)).json()["accepted"] == 1
    (line,) = served.lines()
    assert json.loads(line)["trusted"] is True


async def test_a_refusal_before_the_body_was_read_arrives(served: Served) -> None:
    async with httpx.AsyncClient(base_url=served.public) as client:
        large = await client.post("/v1/events?key=pk", content=b" " * (9 * 1024 * 1024))
        assert large.status_code == 413
        assert (await client.post("/v1/events?key=nope", content=b" " * 300_000)).status_code == 401
        assert (await client.post("/v1/events?key=pk", json=[event("after")])).json()["accepted"] == 1


async def test_the_other_routes(served: Served) -> None:
    async with httpx.AsyncClient() as client:
        script = await client.get(f"{served.public}/autocapture.js")
        assert script.status_code == 200
        tag = {"if-none-match": script.headers["etag"]}
        assert (await client.get(f"{served.public}/autocapture.js", headers=tag)).status_code == 304
        assert (await client.head(f"{served.public}/autocapture.js")).content == b""
        assert (await client.get(f"{served.public}/healthz")).json() == {"status": "ok"}
        assert (
            await client.options(f"{served.public}/v1/events", headers={"origin": "https://a.b"})
        ).status_code == 204
        assert (await client.get(f"{served.admin}/readyz")).json() == {"ready": True, "not_ready": {}}
        metrics = (await client.get(f"{served.admin}/metrics")).text
        assert 'phasewatch_collector_requests_total{route="healthz",status="200"} 1.0' in metrics
        assert (await client.get(f"{served.public}/metrics")).status_code == 404


async def test_a_client_that_hangs_up_in_its_body_harms_nobody(served: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"POST /v1/events?key=pk HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n[{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    del reader
    async with httpx.AsyncClient(base_url=served.public) as client:
        assert (await client.post("/v1/events?key=pk", json=[event("x")])).json()["accepted"] == 1


RAW = st.lists(
    st.sampled_from(
        [
            b"POST ",
            b"GET ",
            b"/v1/events",
            b"?key=pk",
            b" HTTP/1.1\r\n",
            b"Host: x\r\n",
            b"Content-Length: 5\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Content-Encoding: gzip\r\n",
            b"\r\n",
            b"[]",
            b"5\r\n[{}]\n\r\n0\r\n\r\n",
        ]
    )
    | st.binary(max_size=12),
    max_size=12,
)


async def test_no_bytes_on_a_connection_yield_a_500(served: Served) -> None:
    """Whole connections of arbitrary bytes; the fixture checks that none counted as a fault."""
    found: list[bytes] = []

    @settings(max_examples=60, deadline=None)
    @given(RAW)
    def collect(parts: list[bytes]) -> None:
        found.append(b"".join(parts))

    await asyncio.to_thread(collect)
    for sent in found:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(sent)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), DEADLINE_SECONDS)
        writer.close()
        assert not answer.startswith(b"HTTP/1.1 5")
