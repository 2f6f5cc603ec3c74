"""Segment's dialect as a pure function: identities, pages, times, and what is kept of the rest."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.decode.decoded import Decoded, RequestFacts
from collector.decode.dialect import Envelope, Post
from collector.decode.segment import SEGMENT
from collector.dialects.table import EVENT_PATHS
from collector.errors import RequestError, UnreadableBodyError
from collector.settings import Limits
from collector.wire.event import Event, Page
from tests.asgi_client import Client
from tests.unit.collector.conftest import NOW

WEB = RequestFacts("web", trusted=False, received_at=NOW)
BASIC = {"authorization": "Basic cGs6"}
"""Key `pk`, as the user of a Basic login."""


def opened(body: Any, path: str = "/v1/batch", **headers: str) -> Envelope:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = {name.encode(): value.encode() for name, value in headers.items()}
    return SEGMENT.open(Post(path, b"", found, text), Limits())


def decode(*events: Any, **rest: Any) -> Decoded:
    return SEGMENT.decode(opened({"batch": list(events), **rest}), WEB, Limits())


def only(**fields: Any) -> Event:
    ((_, event),) = decode({"messageId": "m-1", "anonymousId": "a-1", "type": "track", "event": "x", **fields}).events
    return event


def properties(event: Event) -> Any:
    return msgspec.json.decode(event.properties)


@pytest.mark.parametrize("nobody", ["", None])
def test_an_empty_user_id_is_none(nobody: object) -> None:
    assert only(userId=nobody).user_id is None


def test_a_number_is_an_id_too() -> None:
    assert only(userId=42).user_id == "42"


def test_an_identify_with_a_user_id_is_native() -> None:
    event = only(type="identify", userId="u-1", traits={"plan": "pro"})
    assert (event.type, event.user_id, event.anonymous_id) == ("identify", "u-1", "a-1")
    assert properties(event)["traits"] == {"plan": "pro"}


def test_an_identify_with_traits_alone_names_nobody() -> None:
    event = only(type="identify", userId=None, traits={"plan": "pro"})
    assert (event.type, event.name, event.user_id) == ("custom", "identify", None)
    assert properties(event)["traits"] == {"plan": "pro"}


def test_an_alias_links_the_id_before() -> None:
    event = only(type="alias", userId="u-1", previousId="a-0")
    assert (event.type, event.user_id, event.anonymous_id) == ("identify", "u-1", "a-0")
    assert properties(event) == {"event": "x", "type": "alias", "anonymousId": "a-1"}


@pytest.mark.parametrize("previous", ["42", 42, "", None])
def test_an_alias_that_has_lost_an_id_links_the_anonymous_one(previous: object) -> None:
    event = only(type="alias", userId="42", previousId=previous)
    assert (event.user_id, event.anonymous_id) == ("42", "a-1")


def test_an_alias_without_a_user_is_custom() -> None:
    event = only(type="alias", previousId="a-0")
    assert (event.type, event.name, properties(event)["previousId"]) == ("custom", "alias", "a-0")


@pytest.mark.parametrize("kind", ["group", "screen", "purchase", "dwell", "page_viewed"])
def test_every_other_type_is_custom_under_its_own_name(kind: str) -> None:
    event = only(type=kind)
    assert (event.type, event.name) == ("custom", kind)


def test_a_page_is_named_by_its_own_properties_first() -> None:
    given = {"url": "https://shop.example/products/bond", "title": "Bonds", "section": "top"}
    around = {
        "url": "https://shop.example/",
        "path": "/",
        "title": "Home",
        "referrer": "https://a.example/",
        "search": "",
    }
    event = only(type="page", event=None, properties=given, context={"page": around})
    assert event.page == Page("https://shop.example/products/bond", "/products/bond", "Bonds", "https://a.example/")
    left = {"url": "https://shop.example/", "path": "/", "title": "Home"}
    assert properties(event) == {"section": "top", "context": {"page": left}}


def test_what_a_page_says_twice_is_kept_once() -> None:
    page = {"url": "https://shop.example/?a=b", "path": "/", "title": "Home", "referrer": "", "search": "?a=b"}
    event = only(type="page", event=None, properties={**page, "name": "Home"}, name="Home", context={"page": page})
    assert event.page == Page("https://shop.example/?a=b", "/", "Home")
    assert properties(event) == {"name": "Home"}


def test_a_tracks_own_url_is_a_property() -> None:
    around = {"url": "https://shop.example/", "path": "/"}
    event = only(properties={"url": "https://else.example/"}, context={"page": around})
    assert event.page == Page("https://shop.example/", "/")
    assert properties(event) == {"url": "https://else.example/"}


def test_a_search_that_is_not_in_the_url_is_masked() -> None:
    event = only(context={"page": {"url": "https://shop.example/", "search": "?q=1&password=hunter2"}})
    assert properties(event) == {"context": {"page": {"search": "?q=1&password=***"}}}


def test_what_is_no_text_stays_where_it_was() -> None:
    event = only(context={"page": {"url": 7, "path": None}, "sessionId": [1], "locale": "en"})
    assert event.page is None
    assert properties(event) == {"context": {"page": {"url": 7, "path": None}, "sessionId": [1], "locale": "en"}}


@pytest.mark.parametrize("context", [None, 7, "x", [], {}, {"page": None}, {"page": []}])
def test_a_context_may_be_anything(context: object) -> None:
    assert only(context=context).name == "x"


def test_what_has_no_place_is_kept_beside_the_properties() -> None:
    event = only(
        properties={"product_id": "b-7"}, integrations={"All": True}, _metadata={"n": 1}, later=[1], writeKey="k"
    )
    assert properties(event) == {
        "product_id": "b-7",
        "integrations": {"All": True},
        "_metadata": {"n": 1},
        "later": [1],
    }


def test_a_property_of_the_same_name_stays() -> None:
    event = only(properties={"context": "mine"}, context={"locale": "en"})
    assert properties(event) == {"context": "mine", "$context": {"locale": "en"}}


@pytest.mark.parametrize(
    ("given", "kept"), [([], {}), (None, {}), ([1], {"properties": [1]}), ("x", {"properties": "x"})]
)
def test_properties_that_are_no_object(given: object, kept: object) -> None:
    assert properties(only(properties=given)) == kept


def test_sent_at_corrects_the_clock() -> None:
    event = {"type": "track", "event": "x", "userId": "u-1", "timestamp": NOW - 60_000}
    ((_, found),) = decode(event, sentAt=NOW - 50_000).events
    assert found.occurred_at == NOW - 10_000


def test_an_events_own_sent_at_counts_where_the_batch_has_none() -> None:
    assert only(timestamp=NOW - 60_000, sentAt=NOW - 50_000).occurred_at == NOW - 10_000


@pytest.mark.parametrize("sent_at", ["", "now", {}, 7, True])
def test_an_unreadable_sent_at_corrects_nothing(sent_at: object) -> None:
    event = {"type": "track", "event": "x", "userId": "u-1", "timestamp": NOW - 60_000}
    ((_, found),) = decode(event, sentAt=sent_at).events
    assert found.occurred_at == NOW - 60_000


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"timestamp": "yesterday"}, "bad_time"),
        ({"userId": "undefined"}, "junk_identity"),
        ({"anonymousId": None}, "missing_identity"),
        ({"userId": 4.2}, "malformed"),
        ({"userId": True}, "malformed"),
        ({"messageId": ["m"]}, "malformed"),
        ({"event": None}, "malformed"),
        ({"event": 7}, "malformed"),
        ({"type": None}, "malformed"),
        ({"type": 7}, "malformed"),
    ],
)
def test_a_bad_event_does_not_cost_its_neighbours(fields: dict[str, Any], reason: str) -> None:
    good = {"messageId": "m-1", "type": "track", "event": "x", "anonymousId": "a-1"}
    decoded = decode({**good, **fields}, good)
    assert [one.reason for one in decoded.rejections] == [reason]
    assert len(decoded.events) == 1


def test_half_a_surrogate_pair_costs_nothing() -> None:
    envelope = opened(rb'{"batch":[{"type":"track","event":"\ud83d","userId":"u-1"}]}')
    ((_, event),) = SEGMENT.decode(envelope, WEB, Limits()).events
    assert event.name == "\ufffd"


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({"batch": [{"writeKey": "one"}], "writeKey": "top"}, b"top"),
        ({"batch": [{"writeKey": "one"}, {"writeKey": "two"}]}, b"one"),
        ([{"writeKey": "one"}], b"one"),
        ({"type": "track", "writeKey": "top"}, b"top"),
        ({"batch": [7]}, None),
        ({"batch": [], "writeKey": 7}, None),
    ],
)
def test_where_the_key_stands(body: object, key: bytes | None) -> None:
    assert opened(body).key == key


@pytest.mark.parametrize(("path", "kind"), [("/v1/page", "page"), ("/v1/p", "page"), ("/v1/g", "custom")])
def test_the_path_names_the_type_where_the_event_does_not(path: str, kind: str) -> None:
    envelope = opened({"anonymousId": "a-1", "messageId": "m-1"}, path)
    ((_, event),) = SEGMENT.decode(envelope, WEB, Limits()).events
    assert event.type == kind


def test_a_context_beside_the_batch_is_of_each_event() -> None:
    event = {"type": "track", "event": "x", "userId": "u-1"}
    shared = {"locale": "en", "timezone": "UTC"}
    decoded = decode(event, {**event, "context": {"locale": "de"}}, "no event", context=shared)
    contexts = [properties(one)["context"] for _, one in decoded.events]
    assert contexts == [shared, {"locale": "de", "timezone": "UTC"}]
    assert [one.index for one in decoded.rejections] == [2]


@pytest.mark.parametrize("body", [b"", b"7", b"data=e30=", b'{"batch":7}', b'{"batch":[', b"\xff"])
def test_a_body_of_another_form(body: bytes) -> None:
    with pytest.raises(UnreadableBodyError):
        opened(body)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
pages = st.dictionaries(st.sampled_from(["url", "path", "title", "referrer", "search", "tab_url"]), json_values)
contexts = json_values | st.fixed_dictionaries(
    {}, optional={"page": pages | json_values, "sessionId": json_values, "traits": json_values}
)
events = json_values | st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["track", "identify", "page", "group", "alias", "screen", ""]) | json_values,
        **dict.fromkeys(["event", "messageId", "userId", "anonymousId", "previousId", "timestamp"], json_values),
        **dict.fromkeys(["originalTimestamp", "sentAt", "writeKey", "traits", "name", "later"], json_values),
        "context": contexts,
        "properties": pages | json_values,
    },
)
bodies = (
    events
    | st.lists(events, max_size=4)
    | st.fixed_dictionaries(
        {"batch": st.lists(events, max_size=4)},
        optional={"sentAt": json_values, "writeKey": json_values, "context": contexts},
    )
)


@given(bodies, st.sampled_from(sorted(one.template for one in EVENT_PATHS if one.name == "segment")))
def test_whatever_comes_every_record_is_an_event_or_a_rejection(body: Any, path: str) -> None:
    try:
        envelope = opened(body, path)
    except RequestError:
        return
    decoded = SEGMENT.decode(envelope, WEB, Limits())
    assert len(decoded.events) + len(decoded.rejections) == len(envelope.records)
    for _, event in decoded.events:
        assert isinstance(properties(event), dict)


@given(st.binary(max_size=80))
def test_whatever_bytes_come(body: bytes) -> None:
    try:
        envelope = opened(body)
    except RequestError:
        return
    assert len(envelope.records) == len(SEGMENT.decode(envelope, WEB, Limits()).rejections)


async def test_rejected_events_are_answered_as_taken(client: Client) -> None:
    answer = await client.send("POST", "/v1/batch", b'{"batch":[{"type":"track"}]}', headers=BASIC)
    assert (answer.status, answer.json) == (200, {"success": True})
    assert [one["reason"] for one in client.rejected()] == ["missing_identity"]


async def test_a_repeat_is_kept_once(client: Client) -> None:
    body = json.dumps({"type": "track", "event": "x", "anonymousId": "a-1", "messageId": "m-1"}).encode()
    for retry in ("0", "1"):
        answer = await client.send("POST", "/v1/t", body, headers={**BASIC, "x-retry-count": retry})
        assert answer.status == 200
    assert [event.id for event in client.events()] == ["m-1"]


async def test_a_key_in_the_query(client: Client) -> None:
    body = b'{"type":"track","event":"x","anonymousId":"a-1","messageId":"m-1"}'
    answer = await client.send("POST", "/v1/t", body, headers={}, query=b"writeKey=pk")
    assert answer.status == 200
