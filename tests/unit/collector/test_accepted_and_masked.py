"""Ids are kept apart by the kind of key, rejected events are named, and URLs in properties are masked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from collector.decode.decoded import RequestFacts
from collector.decode.native import decode_native, decode_request
from collector.settings import Limits

WEB = RequestFacts("web", trusted=False, received_at=1_795_288_859_000)
PURCHASE = {"id": "order-17", "type": "purchase", "user_id": "42", "properties": {"order_id": "17", "amount": "1"}}


async def test_a_ledgers_event_is_no_repeat_of_a_public_one_with_its_id(client: Any) -> None:
    """Else a public key could take a ledger's confirmation away by guessing its id (ADR 0004)."""
    for key in ("pk", "sk"):
        answer = await client.post(json.dumps([PURCHASE]).encode(), headers={"authorization": f"Bearer {key}"})
        assert json.loads(answer.body)["accepted"] == 1
        again = await client.post(json.dumps([PURCHASE]).encode(), headers={"authorization": f"Bearer {key}"})
        assert json.loads(again.body)["duplicate"] == 1


@pytest.mark.parametrize("breaking", ["\0", "\x7f", "\x85", "\u2028", "\u2029"])
@pytest.mark.parametrize("field", ["id", "user_id", "anonymous_id", "session_id"])
def test_ids_hold_no_control_characters(field: str, breaking: str) -> None:
    event = {"id": "e", "type": "page", "user_id": "u", "anonymous_id": "a", "session_id": "s", field: f"x{breaking}y"}
    [rejection] = decode_native([json.dumps(event).encode()], WEB).rejections
    detail = f"events[0].{field} holds control characters or line breaks"
    assert (rejection.reason, rejection.detail) == ("malformed", detail)


@pytest.mark.parametrize(
    "unseen", ["\u200b", "\u202e\u202d", "\ufeffundefined", "null\u200d", "\u00a0 \u3000", "\u2060-\u2060"]
)
def test_what_nobody_sees_of_an_id_makes_it_none_the_less_junk(unseen: str) -> None:
    [rejection] = decode_native([json.dumps({"type": "page", "anonymous_id": unseen}).encode()], WEB).rejections
    assert rejection.reason == "junk_identity"


@pytest.mark.parametrize("index", [-1, 2**53, 2**64])
def test_an_elements_place_is_a_number_that_every_reader_can_hold(index: int) -> None:
    event = {"id": "e", "type": "click", "anonymous_id": "a", "element": {"tag": "a", "index": index}}
    found = decode_request(json.dumps([event]).encode(), WEB, Limits())
    assert [(one.reason, one.detail) for one in found.rejections] == [
        ("malformed", f"events[0].element.index is {index}; expected 0, 1, 2, ...")
    ]


def test_a_ledgers_id_may_be_the_number_0() -> None:
    ledger = WEB._replace(trusted=True)
    assert decode_native([json.dumps(PURCHASE | {"id": 0}).encode()], ledger).events[0][1].id == "0"


@pytest.mark.parametrize("wrong", [{"page": "/products"}, {"seq": 1.5}, {"user_id": 5.0}, {"properties": "x" * 70_000}])
def test_a_rejected_event_is_named_where_its_id_can_be_read(wrong: dict[str, Any]) -> None:
    [rejection] = decode_native(
        [json.dumps({"id": "e-1", "type": "page", "user_id": "u"} | wrong).encode()], WEB
    ).rejections
    assert rejection.id == "e-1"


def test_urls_in_properties_are_masked() -> None:
    event = {
        "type": "page",
        "anonymous_id": "a",
        "referrer": "https://x.example/?token=SECRET",
        "properties": {"list": [{"href": "/y?password=SECRET"}], "n": 7, "text": "no address"},
    }
    decoded = decode_native([json.dumps(event).encode()], WEB)
    [(_, found)] = decoded.events
    properties = json.loads(bytes(found.properties))
    assert "SECRET" not in json.dumps(properties)
    assert (properties["n"], properties["text"]) == (7, "no address")
    assert sum(decoded.masked.values()) == 2
