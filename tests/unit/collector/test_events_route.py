"""Every case of input, good and bad, that the contract names for `POST /v1/events`."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import Any

import brotli
import pytest
import zstandard

from tests.unit.collector.test_conservation import without_a_log

TRUSTED = {"authorization": "Bearer sk"}
PAGE = {"id": "e1", "type": "page", "anonymous_id": "a-1", "page": {"url": "https://shop.example/products/bond?x=1"}}
PURCHASE = {"id": "p1", "type": "purchase", "user_id": "42", "properties": {"order_id": "o1", "amount": "1000.50"}}
NOW = 1_795_288_859_000


async def one_error(client: Any, event: Any, **request: Any) -> tuple[str, str]:
    """Post an event between two good neighbours and return the middle one's reason and detail."""
    first, last = {**PAGE, "id": "first"}, {**PAGE, "id": "last"}
    answer = await client.post([first, event, last], **request)
    assert answer.status == 200, answer.body
    assert (answer.json["accepted"], answer.json["rejected"]) == (2, 1)
    (error,) = answer.json["errors"]
    assert error["index"] == 1
    assert [event.id for event in client.events()] == ["first", "last"]
    (kept,) = client.rejected()
    assert kept["reason"] == error["reason"]
    assert error["detail"].startswith("events[1]")
    return error["reason"], error["detail"]


async def test_an_accepted_event_stands_in_the_log_when_the_answer_comes(client: Any) -> None:
    answer = await client.post({"sent_at": NOW - 1000, "events": [{**PAGE, "ts": NOW - 3000, "seq": 7}]})
    assert answer.status == 200
    assert answer.json == {"accepted": 1, "duplicate": 0, "rejected": 0, "errors": [], "duplicates": []}
    (event,) = client.events()
    assert (event.id, event.source, event.trusted, event.seq) == ("e1", "web", False, 7)
    assert (event.ts, event.occurred_at, event.received_at) == (NOW - 3000, NOW - 2000, NOW)
    assert event.page is not None
    assert event.page.path == "/products/bond"


async def test_a_repeat_of_what_is_durable_is_a_duplicate(client: Any) -> None:
    await client.post([PAGE])
    answer = await client.post([{**PAGE, "id": "e2"}, PAGE, {**PAGE, "id": "e2"}])
    assert (answer.json["accepted"], answer.json["duplicate"], answer.json["duplicates"]) == (1, 2, [1, 2])
    assert [event.id for event in client.events()] == ["e1", "e2"]


async def test_what_another_request_has_on_its_way_is_written_once_and_waited_for(client: Any) -> None:
    first, second, third = await asyncio.gather(
        client.post([PAGE]), client.post([{**PAGE, "id": "e2"}, PAGE]), client.post([PAGE])
    )
    assert [one.json["duplicates"] for one in (first, second, third)] == [[], [1], [0]]
    assert sorted(event.id for event in client.events()) == ["e1", "e2"]


async def test_who_waits_for_another_request_fails_with_it_and_may_come_again(client: Any) -> None:
    with without_a_log(client.path):
        answers = await asyncio.gather(client.post([PAGE]), client.post([PAGE]))
        assert [one.status for one in answers] == [503, 503]
    assert (await client.post([PAGE])).json["accepted"] == 1
    assert [event.id for event in client.events()] == ["e1"]


async def test_the_same_id_of_another_person_is_no_duplicate(client: Any) -> None:
    await client.post([PAGE])
    assert (await client.post([{**PAGE, "anonymous_id": "a-2"}])).json["accepted"] == 1


async def test_unknown_fields_are_kept_under_properties(client: Any) -> None:
    await client.post([{**PAGE, "lib": "x", "trusted": True, "properties": {"a": 1}}])
    (event,) = client.events()
    assert json.loads(bytes(event.properties)) == {"lib": "x", "trusted": True, "a": 1}
    assert not event.trusted


@pytest.mark.parametrize(
    ("event", "reason", "names"),
    [
        (17, "malformed", "events[1]"),
        ("page", "malformed", "events[1]"),
        (None, "malformed", "events[1]"),
        ([], "malformed", "events[1]"),
        ({"anonymous_id": "a"}, "malformed", "type"),
        ({**PAGE, "type": 5}, "malformed", "events[1].type"),
        ({**PAGE, "page": {"url": 5}}, "malformed", "events[1].page.url"),
        ({**PAGE, "page": "x"}, "malformed", "events[1].page"),
        ({**PAGE, "element": []}, "malformed", "events[1].element"),
        ({**PAGE, "properties": []}, "malformed", "events[1].properties"),
        ({**PAGE, "user_id": {}}, "malformed", "events[1].user_id"),
        ({**PAGE, "user_id": True}, "malformed", "events[1].user_id"),
        ({**PAGE, "seq": -1}, "malformed", "events[1].seq"),
        ({**PAGE, "seq": 2**60}, "malformed", "events[1].seq"),
        ({**PAGE, "seq": "1"}, "malformed", "events[1].seq"),
        ({**PAGE, "type": "custom"}, "malformed", "events[1].name"),
        ({**PAGE, "type": "custom", "name": ""}, "malformed", "events[1].name"),
        ({**PAGE, "type": "pageview"}, "unknown_type", 'events[1].type is "pageview"'),
        ({**PAGE, "type": ""}, "unknown_type", "events[1].type"),
        ({"type": "page"}, "missing_identity", "neither user_id nor anonymous_id"),
        ({"type": "identify", "anonymous_id": "a"}, "missing_identity", "events[1].user_id"),
        ({"type": "purchase", "anonymous_id": "a"}, "missing_identity", "events[1].user_id"),
        ({**PAGE, "user_id": "undefined"}, "junk_identity", 'events[1].user_id is "undefined"'),
        ({**PAGE, "anonymous_id": ""}, "junk_identity", "events[1].anonymous_id"),
        ({**PAGE, "user_id": 0}, "junk_identity", "events[1].user_id"),
        ({**PURCHASE, "properties": {}}, "missing_order_id", "events[1].properties.order_id"),
        ({**PURCHASE, "properties": None}, "missing_order_id", "events[1].properties.order_id"),
        ({**PURCHASE, "properties": {"order_id": " "}}, "missing_order_id", "events[1].properties.order_id"),
        ({**PURCHASE, "properties": {"order_id": {}}}, "malformed", "events[1].properties.order_id"),
        ({**PURCHASE, "properties": {"order_id": "o", "amount": 5}}, "bad_amount", "events[1].properties.amount"),
        ({**PURCHASE, "properties": {"order_id": "o", "amount": "1e3"}}, "bad_amount", "amount"),
        ({**PURCHASE, "properties": {"order_id": "o", "amount": "1,000"}}, "bad_amount", "amount"),
        ({**PURCHASE, "properties": {"order_id": "o", "amount": "5\n"}}, "bad_amount", "amount"),
        ({**PURCHASE, "properties": {"order_id": "o", "amount": "五"}}, "bad_amount", "amount"),
        ({**PURCHASE, "type": "redeem", "properties": {"order_id": "o", "remaining": 0}}, "bad_amount", "remaining"),
        ({**PURCHASE, "properties": {"order_id": "o", "matures_at": "soon"}}, "bad_time", "properties.matures_at"),
        ({**PAGE, "ts": "yesterday"}, "bad_time", 'events[1].ts is "yesterday"'),
        ({**PAGE, "ts": "2026-11-21T10:00:00"}, "bad_time", "offset"),
        ({**PAGE, "ts": 1_795_288_859}, "bad_time", "2000"),
        ({**PAGE, "ts": -1}, "bad_time", "events[1].ts"),
        ({**PAGE, "ts": 10**30}, "bad_time", "events[1].ts"),
        ({**PAGE, "ts": True}, "bad_time", "events[1].ts"),
        ({**PAGE, "ts": {}}, "bad_time", "events[1].ts"),
        ({**PAGE, "ts": "9" * 400}, "bad_time", "events[1].ts"),
        ({**PAGE, "id": "x" * 129}, "too_large", "events[1].id"),
        ({**PAGE, "user_id": "x" * 129}, "too_large", "events[1].user_id"),
        ({**PAGE, "session_id": "x" * 129}, "too_large", "events[1].session_id"),
        ({**PAGE, "page": {"title": "x" * 9000}}, "too_large", "events[1].page.title"),
        ({**PAGE, "properties": {"x": "y" * 70_000}}, "too_large", "events[1]"),
        ({**PAGE, "properties": {"x": json.loads("[" * 40 + "]" * 40)}}, "too_deep", "events[1]"),
    ],
)
async def test_one_bad_event_never_fails_its_neighbours(client: Any, event: Any, reason: str, names: str) -> None:
    found, detail = await one_error(client, event)
    assert found == reason
    assert names in detail


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"type": "page", "anonymous_id": "a", "properties": {"x": ' + b"[" * 5000 + b"]" * 5000 + b"}}", "too_deep"),
        (b'{"type": "page", "anonymous_id": "a\xff"}', "malformed"),
        (b'{"type": "page", "anonymous_id": "a", "properties": {"x": 1e999}}', "malformed"),
        (b'{"type": "page", "anonymous_id": "a", "properties": {"x": ' + b"9" * 5000 + b"}}", "malformed"),
    ],
)
async def test_what_no_parser_likes_fails_alone(client: Any, raw: bytes, reason: str) -> None:
    good = json.dumps(PAGE).encode()
    answer = await client.post(b"[" + good + b"," + raw + b"]")
    assert (answer.json["accepted"], [error["reason"] for error in answer.json["errors"]]) == (1, [reason])


async def test_half_a_surrogate_pair_becomes_a_replacement_character(client: Any) -> None:
    body = rb'[{"type":"click","anonymous_id":"a","id":"x","element":{"text":"\\ud83d \ud83d\ude00 \ud83d"}}]'
    assert (await client.post(body)).json["accepted"] == 1
    (event,) = client.events()
    assert event.element is not None
    assert event.element.text == "\\ud83d \U0001f600 \ufffd"


async def test_a_pretty_printed_body_makes_one_line_an_event(client: Any) -> None:
    body = json.dumps([{**PAGE, "properties": {"a": {"b": [1, 2]}}}], indent=2).replace("\n", "\r\n").encode()
    await client.post(b"\xef\xbb\xbf" + body)
    (value,) = client.values("events")
    assert value.count(b"\n") == 1
    assert b"\r" not in value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"null",
        b"17",
        b'"x"',
        b"{}",
        b'{"events": 5}',
        b'{"events": null}',
        b'{"event": []}',
        b"[",
        b"[}",
        b"data=abc",
        b"\x00\x01",
        b"[" * 100000,
        b"{" * 100000,
        b'["' + b'\\"' * 50000,
    ],
)
async def test_what_cannot_be_read_at_all_is_400(client: Any, body: bytes) -> None:
    answer = await client.post(body)
    assert answer.status == 400
    assert answer.json.keys() == {"error", "code", "message", "detail"}


async def test_no_events_are_no_error(client: Any) -> None:
    assert (await client.post([])).json["accepted"] == 0


async def test_a_bad_sent_at_is_every_events_bad_time(client: Any) -> None:
    answer = await client.post({"sent_at": "now", "events": [PAGE, PAGE]})
    assert [error["reason"] for error in answer.json["errors"]] == ["bad_time", "bad_time"]
    assert 'sent_at is "now"' in answer.json["errors"][0]["detail"]


async def test_a_trusted_money_fact_needs_an_id_and_keeps_its_own_time(client: Any) -> None:
    without = {name: value for name, value in PURCHASE.items() if name != "id"}
    body = {"sent_at": NOW - 60_000, "events": [{**PURCHASE, "ts": NOW - 100_000}, without]}
    answer = await client.post(body, headers=TRUSTED)
    assert answer.json["accepted"] == 1
    assert answer.json["errors"][0]["detail"].startswith("events[1].id is missing")
    (event,) = client.events()
    assert (event.trusted, event.source, event.occurred_at) == (True, "ledger", NOW - 100_000)


async def test_matures_at_and_numeric_ids_get_one_form(client: Any) -> None:
    properties = {"order_id": 77, "amount": "1", "matures_at": "2027-01-01T08:00:00+08:00"}
    await client.post([{**PURCHASE, "user_id": 42, "properties": properties}])
    (event,) = client.events()
    assert event.user_id == "42"
    assert json.loads(bytes(event.properties)) == {"order_id": "77", "amount": "1", "matures_at": 1_798_761_600_000}


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({}, b"", 401),
        ({"authorization": "Bearer nope"}, b"", 401),
        ({"authorization": "Bearer "}, b"", 401),
        ({"authorization": "Basic pk"}, b"", 401),
        ({"authorization": "Bearer \xff"}, b"", 401),
        ({}, b"key=nope", 401),
        ({}, b"key=%ff%zz", 401),
        ({}, b"key=pk", 200),
        ({}, b"a=b&key=%70k", 200),
        ({"authorization": "bearer pk"}, b"", 200),
        ({"authorization": "Bearer sk"}, b"", 200),
        ({"authorization": "Bearer sk", "origin": "https://shop.example"}, b"", 403),
        ({"authorization": "Bearer pk", "origin": "https://any.example"}, b"", 200),
        ({"authorization": "Bearer pk-shop", "origin": "https://shop.example"}, b"", 200),
        ({"authorization": "Bearer pk-shop", "origin": "https://shop.example.evil"}, b"", 403),
        ({"authorization": "Bearer pk-shop", "origin": "null"}, b"", 403),
        ({"authorization": "Bearer demo"}, b"", 200),
        ({"authorization": "Bearer demo", "x-forwarded-for": "1.2.3.4"}, b"", 403),
        ({"authorization": "Bearer demo", "forwarded": "for=1.2.3.4"}, b"", 403),
        ({"authorization": "Bearer demo", "via": "1.1 x"}, b"", 403),
        ({"authorization": "Bearer demo", "x-real-ip": "1.2.3.4"}, b"", 403),
        ({"authorization": "Bearer pk", "x-forwarded-for": "1.2.3.4"}, b"", 200),
    ],
)
async def test_keys(client: Any, headers: dict[str, str], query: bytes, status: int) -> None:
    answer = await client.post([PAGE], headers=headers, query=query)
    assert answer.status == status
    if status != 200:
        assert answer.json.keys() == {"error", "code", "message", "detail"}
        assert client.events() == []


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "image/gif"])
async def test_the_content_type_is_never_trusted(client: Any, content_type: str) -> None:
    headers = {"authorization": "Bearer pk", "content-type": content_type}
    assert (await client.post([PAGE], headers=headers)).json["accepted"] == 1


PACKERS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
    "x-gzip": gzip.compress,
    "identity": bytes,
    "": gzip.compress,
}


def _coded(coding: str) -> dict[str, str]:
    return {"authorization": "Bearer pk", "content-encoding": coding}


@pytest.mark.parametrize("coding", PACKERS)
async def test_packed_bodies(client: Any, coding: str) -> None:
    body = PACKERS[coding](json.dumps([PAGE]).encode())
    assert (await client.post(body, headers=_coded(coding), chunks=3)).json["accepted"] == 1


async def test_bare_deflate_and_two_codings(client: Any) -> None:
    plain = json.dumps([PAGE]).encode()
    bare = zlib.compressobj(wbits=-15)
    assert (await client.post(bare.compress(plain) + bare.flush(), headers=_coded("deflate"))).status == 200
    assert (await client.post(brotli.compress(gzip.compress(plain)), headers=_coded("gzip, br"))).status == 200


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", ""])
async def test_a_bomb_is_413(client: Any, coding: str) -> None:
    body = PACKERS[coding](b" " * (40 * 1024 * 1024))
    assert len(body) < 100_000
    assert (await client.post(body, headers=_coded(coding))).status == 413


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
async def test_a_broken_stream_is_400(client: Any, coding: str) -> None:
    whole = PACKERS[coding](json.dumps([PAGE] * 50).encode())
    for body in (whole[: len(whole) // 2], b"", b"no such stream", whole[:2] + b"\xff" * 40):
        assert (await client.post(body, headers=_coded(coding))).status == 400


@pytest.mark.parametrize("coding", ["snappy", "gzip, lzma", "gzip, gzip, gzip", "\xff"])
async def test_an_unknown_encoding_is_415(client: Any, coding: str) -> None:
    assert (await client.post([PAGE], headers=_coded(coding))).status == 415


async def test_thousands_of_empty_gzip_members_are_refused_at_once(client: Any) -> None:
    assert (await client.post(gzip.compress(b"") * 100_000, headers=_coded("gzip"))).status == 400


async def test_a_large_body_is_413(client: Any) -> None:
    assert (await client.post(b" " * (8 * 1024 * 1024 + 1), chunks=9)).status == 413
    declared = {"authorization": "Bearer pk", "content-length": "9" * 30}
    assert (await client.post([PAGE], headers=declared)).status == 413


async def test_too_many_events_are_413(client: Any) -> None:
    assert (await client.post([1] * 5001)).status == 413


async def test_secrets_in_addresses_never_reach_the_log(client: Any) -> None:
    secret = "https://shop.example/u/jane@example.com/?token=abc123&phone=13800138000&q=bond#access_token=abc123"
    event = {**PAGE, "page": {"url": secret, "referrer": secret}, "element": {"href": secret}}
    bad = {**event, "type": "nope"}
    await client.post([event, bad])
    written = b"".join(client.values("events") + client.values("rejected"))
    for value in (b"abc123", b"13800138000", b"jane"):
        assert value not in written
    assert b"q=bond" in written
    assert client.metric("masked_total", source="web", kind="email") == 3


async def test_counts_are_in_the_metrics(client: Any) -> None:
    await client.post([PAGE, PAGE, {"type": "page"}])
    assert client.metric("events_received_total", source="web") == 3
    assert client.metric("events_accepted_total", source="web") == 1
    assert client.metric("events_duplicate_total", source="web") == 1
    assert client.metric("events_rejected_total", source="web", reason="missing_identity") == 1
    assert client.metric("requests_total", route="events", status="200") == 1
    assert client.metric("reading_bytes") == 0
