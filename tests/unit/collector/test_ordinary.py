"""The fast way takes a request exactly as the exact way does, or leaves it to that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.decode.decoded import Decoded, RequestFacts
from collector.decode.native import decode_exactly, decode_request
from collector.decode.ordinary import decode_ordinary
from collector.errors import RequestError
from collector.settings import Limits
from collector.wire.block import encode_event

NOW = 1_795_288_859_000
REQUESTS = [RequestFacts("web", trusted=False, received_at=NOW), RequestFacts("ledger", trusted=True, received_at=NOW)]
SMALL = Limits(event_bytes=256, text_chars=64, id_chars=36, events=3, depth=2)

URLS = st.sampled_from(
    [
        "/products",
        "https://shop.example/a?utm_source=mail",
        "https://jane:pw@shop.example/?token=abc#x=13800138000",
        "/u/jane.doe@example.com",
        "https://www.google.com/",
        "",
        "/" + "x" * 70,
    ]
)
IDS = st.sampled_from(["e-1", "e-2", "a-1", "42", "", "null", "0-0", "x" * 37, "x" * 129, "a\0b", "\u00e9", "\ud83d"])
TIMES = st.sampled_from([NOW - 5, NOW + 5, float(NOW), str(NOW), "2026-01-01T00:00:00Z", "soon", 7, -1, 2**70])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | URLS
JSON = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=2)
EVENTS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["page", "click", "dwell", "identify", "custom", "submit", "purchase", "nope"]),
        "id": st.sampled_from(["e-1", "e-2"]) | st.uuids().map(str),
        "anonymous_id": st.sampled_from(["a-1", "a-2"]),
    },
    optional={
        "user_id": st.sampled_from(["u-1", "42"]),
        "session_id": st.sampled_from(["s-1", "s-2", ""]),
        "ts": st.just(NOW - 9) | st.integers(NOW - 99, NOW + 9),
        "seq": st.integers(0, 9),
        "name": st.sampled_from(["calculated", ""]),
        "page": st.fixed_dictionaries({}, optional={"url": URLS, "path": URLS, "referrer": URLS, "title": st.text()}),
        "element": st.fixed_dictionaries({}, optional={"href": URLS, "text": st.text(max_size=5), "index": st.just(1)}),
        "properties": st.dictionaries(st.text(max_size=5), SCALARS, max_size=3),
    },
)
FIELDS = ["type", "id", "ts", "anonymous_id", "user_id", "session_id", "seq", "name", "page", "element", "properties"]
CHANGES = st.tuples(st.sampled_from([*FIELDS, "other"]), IDS | TIMES | JSON)
"""What is wrong, or only unusual, with one event."""


def outcome(decoded: Decoded) -> Any:
    """Return everything that follows from what was decoded."""
    events = [(index, encode_event(event)) for index, event in decoded.events]
    return events, decoded.rejections, +decoded.masked


def agree(body: bytes, request: RequestFacts, limits: Limits) -> bool:
    """Check that both ways agree on a body; return whether the fast one took it."""
    fast = decode_ordinary(body, request, limits)
    if fast is None:
        return False
    assert outcome(fast) == outcome(decode_exactly(body, request, limits))
    return True


def body_of(events: list[Any], sent_at: Any) -> bytes:
    whole = {"events": events} if sent_at is None else {"sent_at": sent_at, "events": events}
    return json.dumps(whole, allow_nan=True).encode()


@given(st.lists(EVENTS, max_size=4), st.none() | st.just(NOW - 3), st.sampled_from(REQUESTS))
def test_ordinary_requests(events: list[Any], sent_at: int | None, request: RequestFacts) -> None:
    agree(body_of(events, sent_at), request, Limits())
    agree(json.dumps(events).encode(), request, SMALL)


@given(
    st.lists(EVENTS, min_size=1, max_size=3),
    st.lists(CHANGES, min_size=1, max_size=2),
    TIMES | st.none(),
    st.sampled_from(REQUESTS),
    st.sampled_from([Limits(), SMALL]),
)
def test_requests_with_something_wrong(
    events: list[Any], changes: list[Any], sent_at: Any, request: RequestFacts, limits: Limits
) -> None:
    for name, value in changes:
        events[-1][name] = value
    agree(body_of(events, sent_at), request, limits)


@given(st.lists(EVENTS, min_size=1, max_size=2), st.data())
def test_requests_with_broken_bytes(events: list[Any], data: st.DataObject) -> None:
    body = body_of(events, NOW)
    at = data.draw(st.integers(0, len(body)))
    until = data.draw(st.integers(at, min(len(body), at + 9)))
    agree(body[:at] + data.draw(st.binary(max_size=4)) + body[until:], REQUESTS[0], Limits())


@pytest.mark.parametrize("recorded", sorted((Path(__file__).parents[2] / "compat/native").glob("*.json")))
def test_recorded_requests(recorded: Path) -> None:
    body = json.dumps(json.loads(recorded.read_text("utf-8"))["body"]).encode()
    for request in REQUESTS:
        agree(body, request, Limits())


@pytest.mark.parametrize("size", [1, 30])
def test_what_a_browser_sends_goes_the_fast_way(size: int) -> None:
    events = [
        {
            "id": f"e-{at}",
            "type": "dwell",
            "ts": NOW - 7,
            "anonymous_id": "a-1",
            "session_id": "s-1",
            "seq": at,
            "page": {
                "url": "https://shop.example/a?token=abc",
                "title": "A",
                "referrer": "https://x.example/" + "y" * 300,
            },
            "element": {"tag": "a", "href": "/b?pwd=1"},
            "properties": {"ms": 9000, "next": "/c?pwd=1"},
        }
        for at in range(size)
    ]
    assert agree(body_of(events, NOW - 3), REQUESTS[0], Limits())
    assert agree(json.dumps(events).encode(), REQUESTS[1], Limits())


@pytest.mark.parametrize(
    "body", [b'{"events": [' + b"[" * 200_000, b'{"x": ' + b"[" * 99_999, b'{"events": 7}', b"7", b""]
)
def test_what_can_not_be_read_is_left_to_the_exact_way(body: bytes) -> None:
    assert decode_ordinary(body, REQUESTS[0], Limits(event_bytes=192 * 1024)) is None
    with pytest.raises(RequestError):
        decode_request(body, REQUESTS[0], Limits())
