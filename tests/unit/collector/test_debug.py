"""`/debug`: what came in and what was understood of it, for those who point an SDK at a collector of their own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from collector.debug import MOST_EVENTS, MOST_REQUESTS, DebugLog
from collector.debug_routes import DebugRoutes
from collector.http import make_app
from collector.settings import CollectorSettings
from collector.sinks.sqlite import SqliteSink
from tests.asgi_client import Client
from tests.unit.collector.conftest import KEYS, NOW

LOCAL = {b"host": b"127.0.0.1:8630"}


class Debugged:
    """A collector that remembers, and its `/debug`."""

    def __init__(self, client: Client, log: DebugLog) -> None:
        self.client = client
        self._routes = DebugRoutes(log)

    def ask(self, path: str, query: str = "", method: str = "GET", headers: dict[bytes, bytes] = LOCAL) -> Any:
        return self._routes.answer(method, path, query.encode(), headers)

    def requests(self, query: str = "") -> Any:
        answer = self.ask("/debug/requests", query)
        assert answer.status == 200, answer.body
        return json.loads(answer.body)


@pytest.fixture
async def debugged(tmp_path: Path) -> AsyncIterator[Debugged]:
    sink = SqliteSink.open(tmp_path / "log.db", partitions=4, log_id="test", clock=lambda: NOW)
    log, registry = DebugLog(lambda: NOW), CollectorRegistry()
    app = make_app(CollectorSettings(keys=KEYS, linger_ms=0), sink, lambda: NOW, registry=registry, debug=log)
    yield Debugged(Client(app, tmp_path / "log.db", registry), log)
    await app.close()
    await sink.close()


def page(number: int, **more: object) -> dict[str, object]:
    return {"type": "page", "id": f"e-{number}", "anonymous_id": "a-1", **more}


async def test_it_tells_what_was_understood_and_what_was_rejected_and_why(debugged: Debugged) -> None:
    events = [page(1), page(1), page(2, user_id="null"), {"type": "custom", "name": "opened", "user_id": "42"}]
    await debugged.client.post(events, headers={"authorization": "Bearer pk", "user-agent": "an-sdk/1.2"})
    found = debugged.requests()
    assert found["counts"] == {"requests": 1, "refused": 0, "accepted": 2, "duplicate": 1, "rejected": 1}
    (one,) = found["requests"]
    assert (one["number"], one["received_at"], one["method"], one["path"]) == (1, NOW, "POST", "/v1/events")
    assert (one["dialect"], one["source"], one["status"], one["user_agent"]) == ("native", "web", 200, "an-sdk/1.2")
    assert [(seen["index"], seen["duplicate"], seen["event"]["type"]) for seen in one["events"]] == [
        (0, False, "page"),
        (1, True, "page"),
        (3, False, "custom"),
    ]
    assert one["rejected"] == [
        {"index": 2, "id": "e-2", "reason": "junk_identity", "detail": 'events[2].user_id is "null"'}
    ]


async def test_refused_requests_are_told_with_their_reason(debugged: Debugged) -> None:
    await debugged.client.post([page(1)], headers={"authorization": "Bearer nobody"})
    await debugged.client.post(b"nonsense")
    await debugged.client.send("POST", "/track/me", b"[]")
    found = debugged.requests()
    assert [(one["path"], one["status"]) for one in found["requests"]] == [
        ("/track/me", 404),
        ("/v1/events", 400),
        ("/v1/events", 401),
    ]
    assert [bool(one["refused"]) for one in found["requests"]] == [True, True, True]
    assert [one["dialect"] for one in found["requests"]] == [None, "native", None]
    assert b"nobody" not in debugged.ask("/debug/requests").body, "a key that was sent is nobody's business"


async def test_it_can_be_filtered_and_reset(debugged: Debugged) -> None:
    await debugged.client.post([page(1)])
    await debugged.client.post([page(2, type="custom", name="opened"), page(3, user_id="7")])
    await debugged.client.post([page(4, type="nonsense")], headers={"authorization": "Bearer sk"})
    for query, numbers in (
        ("", [3, 2, 1]),
        ("event=opened", [2]),
        ("event=page&person=7", [2]),
        ("person=a-1", [2, 1]),
        ("source=ledger", [3]),
        ("rejected=true", [3]),
        ("rejected=false", [2, 1]),
        ("dialect=posthog", []),
        ("after=2", [3]),
        ("status=200&limit=1", [3]),
        ("path=/v1/events&after=1", [3, 2]),
    ):
        assert [one["number"] for one in debugged.requests(query)["requests"]] == numbers, query
    assert debugged.requests("limit=1")["counts"]["requests"] == 3
    assert debugged.ask("/debug/reset", method="POST").status == 204
    assert debugged.requests()["requests"] == []
    await debugged.client.post([page(5)])
    assert [one["number"] for one in debugged.requests()["requests"]] == [4]


async def test_what_it_does_not_answer(debugged: Debugged) -> None:
    for answer, status in (
        (debugged.ask("/debug/requests", "who=me"), 400),
        (debugged.ask("/debug/requests", "limit=-1"), 400),
        (debugged.ask("/debug/nowhere"), 404),
        (debugged.ask("/debug/reset"), 405),
        (debugged.ask("/debug", headers={b"host": b"rebound.example"}), 403),
        (debugged.ask("/debug/reset", method="POST", headers={**LOCAL, b"sec-fetch-site": b"cross-site"}), 403),
        (debugged.ask("/debug", headers={**LOCAL, b"x-forwarded-for": b"203.0.113.9"}), 403),
    ):
        assert answer.status == status
        assert json.loads(answer.body).keys() == {"error", "code", "message", "detail"}
    for host in (b"localhost", b"localhost:8630", b"127.0.0.1", b"[::1]", b"[::1]:8630"):
        page_of_it = debugged.ask("/debug", headers={b"host": host})
        assert (page_of_it.status, page_of_it.body[:15]) == (200, b"<!doctype html>")


async def test_it_remembers_only_so_much(debugged: Debugged) -> None:
    for number in range(MOST_REQUESTS + 3):
        await debugged.client.post([page(number)])
    found = debugged.requests(f"limit={MOST_REQUESTS}")["requests"]
    assert (len(found), found[-1]["number"]) == (MOST_REQUESTS, 4)
    await debugged.client.post([page(number) for number in range(10_000, 10_000 + MOST_EVENTS)])
    assert [len(one["events"]) for one in debugged.requests()["requests"]] == [MOST_EVENTS]
    await debugged.client.post([page(1)])
    assert [len(one["events"]) for one in debugged.requests()["requests"]] == [1]
