"""The public port beside events: CORS, the script, health, unknown paths; and that nothing sent yields a fault."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from collector.admin import make_admin_app
from collector.http import make_app
from collector.settings import CollectorSettings, Limits, WriteKey
from collector.sinks.sqlite import SqliteSink

ORIGIN = {"origin": "https://shop.example", "authorization": "Bearer pk"}

WEB_ONLY = (WriteKey(name="web", key=SecretStr("pk")),)


@pytest.mark.parametrize("path", ["/v1/events", "/autocapture.js", "/healthz", "/nowhere", "*"])
async def test_every_path_answers_a_preflight(client: Any, path: str) -> None:
    answer = await client.send("OPTIONS", path, headers={**ORIGIN, "access-control-request-method": "POST"})
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "authorization" in answer.headers["access-control-allow-headers"]
    assert int(answer.headers["access-control-max-age"]) > 0


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ("authorization,rsa-retry-attempt, rsa-recovered", True),
        ("x" * 1025, False),
        ("one: two", False),
        ("one\r\ntwo", False),
    ],
)
async def test_a_preflight_is_granted_what_it_asks_for(client: Any, asked: str, *, allowed: bool) -> None:
    answer = await client.send("OPTIONS", "/v1/track", headers={**ORIGIN, "access-control-request-headers": asked})
    found = answer.headers["access-control-allow-headers"]
    assert found.startswith("content-type, ")
    assert found.endswith(asked) is allowed
    assert len(found) < 1200


async def test_answers_and_refusals_can_be_read_by_the_page(client: Any) -> None:
    for body in (b"[]", b"nonsense"):
        answer = await client.post(body, headers=ORIGIN)
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        assert answer.headers["access-control-expose-headers"] == "retry-after"
        assert answer.headers["vary"] == "origin"


async def test_without_an_origin_there_are_no_cors_headers_but_vary(client: Any) -> None:
    answer = await client.post(b"[]")
    assert [name for name in answer.headers if name.startswith("access-control")] == []
    assert answer.headers["vary"] == "origin"


async def test_unknown_paths_and_wrong_methods(client: Any) -> None:
    assert (await client.send("GET", "/nowhere")).status == 404
    for method, path, allow in [
        ("GET", "/v1/events", "POST, OPTIONS"),
        ("PUT", "/v1/events", "POST, OPTIONS"),
        ("POST", "/autocapture.js", "GET, HEAD, OPTIONS"),
        ("BREW", "/healthz", "GET, HEAD, OPTIONS"),
    ]:
        answer = await client.send(method, path)
        assert (answer.status, answer.headers["allow"]) == (405, allow)
        assert answer.json.keys() == {"error", "code", "message", "detail"}


async def test_health(client: Any) -> None:
    assert (await client.send("GET", "/healthz", headers={})).json == {"status": "ok"}


async def test_renamed_paths(tmp_path: Path) -> None:
    renamed = CollectorSettings(
        events_path="/e", autocapture_path="/a.js", keys=(WriteKey(name="web", key=SecretStr("pk")),)
    )
    sink = SqliteSink.open(tmp_path / "log.db", partitions=1, log_id="x", clock=lambda: 0)
    app = make_app(renamed, sink, lambda: 0)
    assert (await _call(app, "GET", "/a.js"))[0] == 200
    assert b"'/v1/events'" not in (await _call(app, "GET", "/a.js"))[1]
    assert (await _call(app, "POST", "/v1/events"))[0] == 404
    assert (await _call(app, "POST", "/e", [(b"authorization", b"Bearer pk")], b"[]"))[0] == 200
    await app.close()
    await sink.close()


async def _call(
    app: Any, method: str, path: str, headers: list[tuple[bytes, bytes]] | None = None, body: bytes = b""
) -> tuple[int, bytes]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers or []}
    await app(scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


async def test_an_unavailable_sink_is_503_for_all_and_the_repeat_is_accepted(client: Any) -> None:
    event = {"id": "e1", "type": "page", "anonymous_id": "a-1"}
    connection = _locked(client.path)
    answer = await client.post([event, {"type": "nope"}])
    assert (answer.status, answer.json["code"]) == (503, "not_durable")
    assert int(answer.headers["retry-after"]) > 0
    connection.execute("ROLLBACK")
    connection.close()
    assert (await client.post([event])).json["accepted"] == 1


def _locked(path: Path) -> Any:
    import sqlite3  # noqa: PLC0415 - only to lock the file under the collector

    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    return connection


async def test_a_queue_that_is_full_is_503(tmp_path: Path) -> None:
    limits = CollectorSettings(
        queue_bytes=1024 * 1024, linger_ms=1000, keys=(WriteKey(name="web", key=SecretStr("pk")),)
    )
    sink = SqliteSink.open(tmp_path / "log.db", partitions=1, log_id="x", clock=lambda: 0)
    app = make_app(limits, sink, lambda: 1_795_288_859_000)
    key = [(b"authorization", b"Bearer pk")]
    events = [{"type": "page", "anonymous_id": "a", "properties": {"x": "y" * 60_000}} for _ in range(12)]
    body = json.dumps(events).encode()
    answers = await asyncio.gather(*(_call(app, "POST", "/v1/events", key, body) for _ in range(2)))
    assert sorted(status for status, _ in answers) == [200, 503]
    await app.close()
    await sink.close()


async def test_a_slow_body_is_given_up(tmp_path: Path) -> None:
    limits = CollectorSettings(limits=Limits(body_seconds=0.01), keys=WEB_ONLY)
    sink = SqliteSink.open(tmp_path / "log.db", partitions=1, log_id="x", clock=lambda: 0)
    app = make_app(limits, sink, lambda: 0)
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/events", "query_string": b"key=pk", "headers": []}
    await app(scope, receive, send)
    assert sent[0]["status"] == 503
    await app.close()
    await sink.close()


async def test_the_admin_port_names_what_is_not_ready(client: Any, tmp_path: Path) -> None:
    sink = SqliteSink.open(tmp_path / "other.db", partitions=1, log_id="x", clock=lambda: 0)

    async def worker() -> str | None:
        return "owns no partition"

    ready = make_admin_app(sink, client.registry)
    waiting = make_admin_app(sink, CollectorRegistry(), {"worker": worker})
    assert (await _call(ready, "GET", "/readyz"))[0] == 200
    status, body = await _call(waiting, "GET", "/readyz")
    assert (status, json.loads(body)["not_ready"]) == (503, {"worker": "owns no partition"})
    metrics = (await _call(ready, "GET", "/metrics"))[1]
    assert b"phasewatch_collector_requests_total" in metrics
    assert b"phasewatch_collector_sink_ready 1.0" in metrics
    assert b"phasewatch_collector_sink_ready 1.0" in (await _call(waiting, "GET", "/metrics"))[1]  # the sink is
    assert (await _call(ready, "GET", "/nowhere"))[0] == 404
    assert (await _call(ready, "POST", "/metrics"))[0] == 405
    await sink.close()
    status, body = await _call(ready, "GET", "/readyz")
    assert status == 503
    assert "closed" in json.loads(body)["not_ready"]["sink"]
    assert b"phasewatch_collector_sink_ready 0.0" in (await _call(ready, "GET", "/metrics"))[1]


PATHS = st.sampled_from(["/v1/events", "/autocapture.js", "/healthz", "/", "*", ""]) | st.text(max_size=20)
METHODS = st.sampled_from(["POST", "GET", "HEAD", "OPTIONS", "PUT", "DELETE"]) | st.text(max_size=8)
NAMES = st.sampled_from(
    ["authorization", "origin", "content-encoding", "content-length", "user-agent", "if-none-match", "x-forwarded-for"]
)
LATIN = st.text(alphabet=st.characters(max_codepoint=255), max_size=24)
VALUES = st.sampled_from(["Bearer pk", "Bearer sk", "gzip", "br", "zstd", "deflate", "https://a.example", "12"]) | LATIN
BODIES = st.binary(max_size=200) | st.sampled_from([b"[]", b"[{}]", b'{"events":[{}]}', b'[{"type":"page"}]'])


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    method=METHODS,
    path=PATHS,
    headers=st.dictionaries(NAMES, VALUES, max_size=4),
    query=st.binary(max_size=20),
    body=BODIES,
    known=st.booleans(),
)
def test_nothing_a_client_sends_is_a_fault(
    tmp_path_factory: pytest.TempPathFactory,
    *,
    method: str,
    path: str,
    headers: dict[str, str],
    query: bytes,
    body: bytes,
    known: bool,
) -> None:
    """Any method, path, headers and body: an answer of the table, and no fault counted."""
    if known:
        headers = {**headers, "authorization": "Bearer pk"}
        method, path = "POST", "/v1/events"
    file = tmp_path_factory.getbasetemp() / "fuzz.db"
    status, faults = asyncio.run(_one(file, method, path, headers=headers, query=query, body=body))
    assert status in {200, 204, 304, 400, 401, 403, 404, 405, 413, 415}
    assert faults == 0


async def _one(
    file: Path, method: str, path: str, *, headers: dict[str, str], query: bytes, body: bytes
) -> tuple[int, float | None]:
    sink = SqliteSink.open(file, partitions=2, log_id="x", clock=lambda: 0)
    registry = CollectorRegistry()
    keys = (WriteKey(name="web", key=SecretStr("pk")), WriteKey(name="ledger", key=SecretStr("sk"), trusted=True))
    app = make_app(CollectorSettings(keys=keys, linger_ms=0), sink, lambda: 1_795_288_859_000, registry=registry)
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    given = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": given}
    await app(scope, receive, send)
    await app.close()
    await sink.close()
    return sent[0]["status"], registry.get_sample_value("phasewatch_collector_faults_total")
