"""The console behind a real server: streams of changes, resumed and ended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from console import changes
from console.app import end_streams, make_console_app
from tests.unit.console.shop import Shop

PATIENCE_SECONDS = 15


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = Shop(tmp_path)
    await shop.open()
    yield shop
    shop.close()


@pytest.fixture
def app(shop: Shop) -> FastAPI:
    return make_console_app(query=shop.query, changes=shop.log, clock=shop.clock)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS) as client:
        yield client
    end_streams(app)
    server.should_exit = True
    async with asyncio.timeout(PATIENCE_SECONDS):
        await serving


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - what another task does sets no event here
            await asyncio.sleep(0.01)


class Events:
    """Server-sent events as a browser reads them (WHATWG HTML, section 9.2.6)."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.last_id = ""
        self.comments = 0
        self._lines = response.aiter_lines()

    async def next(self) -> dict[str, Any]:
        """Return the next event's message."""
        data: list[str] = []
        name = "message"
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for line in self._lines:
                if not line and data:
                    assert name == "change"
                    message: dict[str, Any] = json.loads("\n".join(data))
                    return message
                field, _, value = line.partition(": ")
                self.comments += line.startswith(":")
                self.last_id = value if field == "id" else self.last_id
                name = value if field == "event" else name
                data += [value] if field == "data" else []
        raise EOFError

    async def begin(self) -> None:
        """Read up to the first id, which comes before any change."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for line in self._lines:
                if line.startswith("id: "):
                    self.last_id = line[4:]
                    return


@asynccontextmanager
async def stream(client: httpx.AsyncClient, query: str = "", **headers: str) -> AsyncIterator[Events]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.stream("GET", "/api/changes/stream" + query, headers=sent) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Events(response)


async def test_a_stream_begins_now_and_resumes_where_it_broke_off(shop: Shop, client: httpx.AsyncClient) -> None:
    await shop.decide("u:before")
    async with stream(client) as events:
        await events.begin()
        await shop.decide("u:1")
        assert (await events.next())["person"] == "u:1"
        last_id = events.last_id
    await shop.decide("u:2")
    await shop.decide("u:3")
    async with stream(client, "?after=0", Last_Event_ID=last_id) as events:  # as a browser asks that connects again
        assert [(await events.next())["person"] for _ in range(2)] == ["u:2", "u:3"]
        await shop.take(shop.money("purchase", "u:3", "o-1"))
        change = await events.next()
        assert (change["person"], change["from"], change["to"]) == ("u:3", "decision", "holding")
        page = (await client.get(f"/api/changes?after={last_id}")).json()
        assert page["next"] == events.last_id
        assert page["changes"][-1] == change


async def test_a_stream_can_be_resumed_before_any_change(shop: Shop, client: httpx.AsyncClient) -> None:
    async with stream(client) as events:
        await events.begin()
    await shop.decide("u:missed")
    async with stream(client, Last_Event_ID=events.last_id) as events:
        assert (await events.next())["person"] == "u:missed"


async def test_a_stream_gives_what_the_pages_give(shop: Shop, client: httpx.AsyncClient) -> None:
    for number in range(12):
        await shop.decide(f"u:{number}")
    expected = (await client.get("/api/changes")).json()["changes"]
    async with stream(client, "?after=0") as events:
        assert [await events.next() for _ in expected] == expected


async def test_a_silent_stream_has_a_heartbeat(
    shop: Shop, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "HEARTBEAT_SECONDS", 0.01)
    async with stream(client) as events:
        reading = asyncio.create_task(events.next())
        await until(lambda: events.comments > 2)
        await shop.decide("u:1")
        assert (await reading)["person"] == "u:1"


async def test_a_reader_that_goes_frees_its_place(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MOST_STREAMS", 1)
    async with stream(client) as events:
        await events.begin()
        refused = await client.get("/api/changes/stream")
        assert (refused.status_code, refused.json()["code"]) == (503, "too_many_streams")
        assert int(refused.headers["retry-after"]) > 0
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            async with client.stream("GET", "/api/changes/stream") as again:
                if again.status_code == 200:
                    break


async def test_streams_end_before_the_server_stops(app: FastAPI, client: httpx.AsyncClient) -> None:
    """A server waits for its responses: one that never ends by itself would hold up every stop."""
    async with stream(client) as events, stream(client, "?after=0") as other:
        await events.begin()
        end_streams(app)
        for one in (events, other):
            with pytest.raises(EOFError):
                await one.next()
    assert (await client.get("/api/changes/stream")).json()["code"] == "stopping"
    assert (await client.get("/api/stages")).status_code == 200


async def test_a_reader_that_pauses_misses_nothing_and_holds_up_nobody(
    shop: Shop, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "PAGE_CHANGES", 3)
    async with stream(client) as idle, stream(client) as events:
        await idle.begin()
        await events.begin()
        for number in range(8):
            await shop.decide(f"u:{number}")
            assert (await events.next())["person"] == f"u:{number}"
        assert [(await idle.next())["person"] for _ in range(8)] == [f"u:{number}" for number in range(8)]
