"""RudderStack's dialect: what tells it from Segment on one path, and where its events differ."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from collector.decode.decoded import RequestFacts
from collector.decode.dialect import Post
from collector.decode.rudder import RUDDER, is_rudder
from collector.http import make_app
from collector.settings import CollectorSettings, Limits, WriteKey
from collector.sinks.sqlite import SqliteSink
from collector.wire.event import Event
from tests.asgi_client import Client
from tests.unit.collector.conftest import NOW

WEB = RequestFacts("web", trusted=False, received_at=NOW)


def post(body: Any, **headers: str) -> Post:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Post("/v1/batch", b"", {name.encode(): value.encode() for name, value in headers.items()}, text)


def only(*, sent_at: str = "", **fields: Any) -> Event:
    body = {"batch": [{"messageId": "m-1", "anonymousId": "a-1", "type": "track", "event": "x", **fields}]}
    envelope = RUDDER.open(post(body, **({"sentat": sent_at} if sent_at else {})), Limits())
    ((_, event),) = RUDDER.decode(envelope, WEB, Limits()).events
    return event


def properties(event: Event) -> Any:
    return msgspec.json.decode(event.properties)


@pytest.mark.parametrize(
    "event",
    [
        {"channel": "web"},
        {"channel": "server", "context": {"library": {"name": "analytics-python", "version": "2.1.9"}}},
        {"originalTimestamp": "2026-11-21T19:30:50.000Z"},
        {"context": {"library": {"name": "RudderLabs JavaScript SDK"}}},
        {"channel": "mobile", "context": {"library": {"name": "com.rudderstack.android.sdk.core"}}},
    ],
)
def test_what_is_surely_rudders(event: dict[str, Any]) -> None:
    assert is_rudder(post({"batch": [event]}))
    assert is_rudder(post(event))


def test_its_header_is_enough() -> None:
    assert is_rudder(post(b"whatever", anonymousid="YS0x"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"batch":[]}',
        {"batch": [{"context": {"library": {"name": "analytics-python", "version": "2.4.0"}}}]},
        {"batch": [{"channel": "mobile", "context": {"library": {"name": "analytics-android"}}}]},
        {"batch": [{"event": "Rudder Bought", "properties": {"channel": "web", "originalTimestamp": 1}}]},
        {"batch": [{"channel": "web"}], "writeKey": "k", "context": 7, "originalTimestamp": None, "channel": ["web"]},
        b'{"channel":',
    ],
)
def test_everything_else_is_segments(body: Any) -> None:
    assert not is_rudder(post(body))


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_whatever_bytes_come(body: bytes) -> None:
    assert not is_rudder(post(b'{"channel":7,' + body))


def test_a_session_is_a_number() -> None:
    event = only(context={"sessionId": 1_795_289_389_657, "sessionStart": True})
    assert event.session_id == "1795289389657"
    assert properties(event) == {"context": {"sessionStart": True}}


def test_the_canonical_url_is_the_page_and_the_tabs_is_kept() -> None:
    page = {"url": "https://shop.example/funds", "tab_url": "https://shop.example/?token=t0p", "referrer": "$direct"}
    event = only(type="page", event=None, properties=page, context={"page": page})
    assert event.page is not None
    assert (event.page.path, event.page.referrer) == ("/funds", None)
    assert properties(event) == {"context": {"page": {"tab_url": "https://shop.example/?token=***"}}}


def test_traits_that_stand_twice_are_kept_once() -> None:
    event = only(
        type="identify", event=None, userId="u-1", traits={"a": 1}, context={"traits": {"a": 1}, "locale": "zh-CN"}
    )
    assert properties(event) == {"traits": {"a": 1}, "context": {"locale": "zh-CN"}}


def test_traits_in_the_context_stay_there() -> None:
    event = only(type="identify", event=None, userId="u-1", context={"traits": {"a": 1}})
    assert properties(event) == {"context": {"traits": {"a": 1}}}


def test_the_original_timestamp_is_the_clients_time() -> None:
    assert only(originalTimestamp=NOW - 60_000).ts == NOW - 60_000


def test_a_callers_timestamp_counts_for_more() -> None:
    event = only(timestamp=NOW - 60_000, originalTimestamp=NOW - 1_000)
    assert event.ts == NOW - 60_000
    assert properties(event) == {"originalTimestamp": NOW - 1_000}


def test_the_header_says_when_it_was_sent() -> None:
    event = only(sent_at="2026-11-21T19:20:49.000Z", originalTimestamp=NOW - 60_000)
    assert event.occurred_at == NOW - 50_000


@pytest.fixture
async def rudders(tmp_path: Path) -> AsyncIterator[Client]:
    sink = SqliteSink.open(tmp_path / "log.db", partitions=1, log_id="test", clock=lambda: NOW)
    keys = (WriteKey(name="web", key=SecretStr("pk"), dialects=("rudder",)),)
    registry = CollectorRegistry()
    app = make_app(CollectorSettings(keys=keys, linger_ms=0), sink, lambda: NOW, registry=registry)
    yield Client(app, tmp_path / "log.db", registry, {"authorization": "Basic cGs6"})
    await app.close()
    await sink.close()


async def test_a_key_for_rudder_takes_no_segment(rudders: Client) -> None:
    event = {"type": "track", "event": "x", "userId": "u-1", "messageId": "m-1"}
    refused = await rudders.send("POST", "/v1/batch", json.dumps({"batch": [event]}).encode())
    assert (refused.status, refused.json["code"]) == (403, "not_allowed")
    event["channel"] = "server"
    taken = await rudders.send("POST", "/v1/batch", json.dumps({"batch": [event]}).encode())
    assert (taken.status, taken.json) == (200, {"success": True})


async def test_gzip_that_calls_itself_a_form(rudders: Client) -> None:
    body = gzip.compress(
        b'{"batch":[{"type":"track","event":"x","userId":"u-1","messageId":"m-1","channel":"server"}]}'
    )
    headers = {
        **rudders.default_headers,
        "content-type": "application/x-www-form-urlencoded",
        "content-encoding": "gzip",
    }
    answer = await rudders.send("POST", "/v1/batch", body, headers=headers)
    assert answer.status == 200
    assert [event.id for event in rudders.events()] == ["m-1"]


@pytest.mark.parametrize("status", [400, 401, 403, 415])
async def test_refusals_that_are_final_say_so(rudders: Client, status: int) -> None:
    """Without `code` and `message` in the body, rudder-sdk-python sends a refused batch again for minutes."""
    headers = dict(rudders.default_headers)
    body = b'{"batch":[]}'
    if status == 400:
        body = b"no JSON"
        headers["anonymousid"] = "YS0x"
    elif status == 401:
        headers["authorization"] = "Basic eHg6"
    elif status == 415:
        headers["content-encoding"] = "lzma"
    answer = await rudders.send("POST", "/v1/batch", body, headers=headers)
    assert answer.status == status
    assert answer.json["code"]
    assert answer.json["message"]


@pytest.mark.parametrize("path", ["/v1/track", "/v1/batch", "/v1/t", "/sourceConfig/", "/v1/projects/pk/settings"])
async def test_a_preflight_lets_every_header_of_both_pass(rudders: Client, path: str) -> None:
    answer = await rudders.send("OPTIONS", path, headers={"origin": "https://shop.example"})
    allowed = set(answer.headers["access-control-allow-headers"].split(", "))
    assert answer.status == 204
    assert allowed >= {"authorization", "content-type", "x-retry-count", "anonymousid", "sentat"}


@pytest.mark.parametrize("channel", [{}, [], {"web": 1}, 1])
async def test_a_channel_that_is_no_text_is_nobodys_mark(rudders: Client, channel: object) -> None:
    body = {"batch": [{"type": "track", "event": "x", "userId": "u-1", "messageId": "m-1", "channel": channel}]}
    assert (await rudders.send("POST", "/v1/batch", json.dumps(body).encode())).status == 403
