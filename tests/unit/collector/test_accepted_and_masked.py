"""Ids are kept apart by the kind of key, rejected events are named, and URLs in properties are masked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from collector.decode.decoded import RequestFacts
from collector.decode.native import decode_native

WEB = RequestFacts("web", trusted=False, received_at=1_795_288_859_000)
PURCHASE = {"id": "order-17", "type": "purchase", "user_id": "42", "properties": {"order_id": "17", "amount": "1"}}


async def test_a_ledgers_event_is_no_repeat_of_a_public_one_with_its_id(client: Any) -> None:
    """Else a public key could take a ledger's confirmation away by guessing its id (ADR 0004)."""
    for key in ("pk", "sk"):
        answer = await client.post(json.dumps([PURCHASE]).encode(), headers={"authorization": f"Bearer {key}"})
        assert json.loads(answer.body)["accepted"] == 1
        again = await client.post(json.dumps([PURCHASE]).encode(), headers={"authorization": f"Bearer {key}"})
        assert json.loads(again.body)["duplicate"] == 1


@pytest.mark.parametrize("field", ["id", "user_id", "anonymous_id", "session_id"])
def test_ids_hold_no_control_characters(field: str) -> None:
    event = {"id": "e", "type": "page", "user_id": "u", "anonymous_id": "a", "session_id": "s", field: "x\0y"}
    [rejection] = decode_native([json.dumps(event).encode()], WEB).rejections
    assert (rejection.reason, rejection.detail) == ("malformed", f"events[0].{field} holds control characters")


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
