"""The native decoder as a pure function: ids, identities and times."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.decode.decoded import Decoded, Reason, RequestFacts
from collector.decode.identity import is_junk
from collector.decode.native import decode_native
from collector.wire.block import decode_events, encode_event

NOW = 1_795_288_859_000
WEB = RequestFacts("web", trusted=False, received_at=NOW)


def decode(*events: Any, sent_at: object = None) -> Decoded:
    return decode_native([json.dumps(event).encode() for event in events], WEB, sent_at=sent_at)


def only_time(ts: object, sent_at: object = None) -> int:
    ((_, event),) = decode({"type": "page", "anonymous_id": "a-1", "ts": ts}, sent_at=sent_at).events
    return event.occurred_at


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "NULL",
        "undefined",
        "0",
        "00",
        "guest",
        "None",
        "nil",
        "NaN",
        "[object Object]",
        "anonymous",
        "unknown",
        "",
        " ",
        "\t\n",
        "00000000-0000-0000-0000-000000000000",
        '"null"',
        " Undefined ",
        "\u3000",
        "(null)",
        "-",
        "00:00:00:00:00:00",
        "0.0",
        "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
        "02:00:00:00:00:00",
        "(not set)",
        "{{ user.id }}",
        "${userId}",
        "[]",
        "未登录",
        "-1",
    ],
)
def test_ids_that_stand_for_nobody(text: str) -> None:
    assert is_junk(text)


@pytest.mark.parametrize(
    "text", ["1", "42", "007", "nullable", "guest-17", "Noneman", "test", "张三", "{1}", "$device:17", "0.1", "<x@y>"]
)
def test_ids_of_somebody(text: str) -> None:
    assert not is_junk(text)


@pytest.mark.parametrize(
    ("ts", "expected"),
    [
        (NOW - 5, NOW - 5),
        (NOW - 5.0, NOW - 5),
        (str(NOW - 5), NOW - 5),
        (f"{NOW - 5}.7", NOW - 5),
        ("2026-01-01T00:00:00Z", 1_767_225_600_000),
        ("2026-01-01t00:00:00.123z", 1_767_225_600_123),
        ("2026-01-01T08:00:00.123456+08:00", 1_767_225_600_123),
        (NOW + 5, NOW),
        (None, NOW),
    ],
)
def test_times_are_read_and_never_in_the_future(ts: object, expected: int) -> None:
    assert only_time(ts) == expected


def test_a_wrong_clock_is_corrected_by_sent_at() -> None:
    assert only_time(NOW + 86_400_000 - 500, sent_at=NOW + 86_400_000) == NOW - 500
    assert only_time(NOW - 90_000, sent_at=NOW - 60_000) == NOW - 30_000


def test_an_event_that_sent_at_puts_before_2000_is_a_bad_time() -> None:
    decoded = decode({"type": "page", "anonymous_id": "a-1", "ts": NOW}, sent_at="2199-01-01T00:00:00Z")
    assert [one.reason for one in decoded.rejections] == [Reason.BAD_TIME]


def test_an_event_without_id_keeps_its_made_one_across_retries() -> None:
    event = {"type": "page", "anonymous_id": "a-1", "ts": NOW - 9}
    first = [one.id for _, one in decode(event, event, {**event, "ts": NOW - 8}, sent_at=NOW).events]
    again = [one.id for _, one in decode(event, event, {**event, "ts": NOW - 8}, sent_at=NOW - 77).events]
    assert first == again
    assert len(set(first)) == 3


def test_an_event_with_neither_id_nor_ts_gets_a_fresh_id() -> None:
    event = {"type": "page", "anonymous_id": "a-1"}
    assert len({one.id for _, one in decode(event, event).events}) == 2


def test_the_channel_is_utm_source_or_a_foreign_referrer() -> None:
    def channel(**page: str) -> str | None:
        ((_, event),) = decode({"type": "page", "anonymous_id": "a-1", "page": page}).events
        return event.context.channel if event.context is not None else None

    own = "https://shop.example/a"
    assert channel(url=f"{own}?utm_source=we%20chat") == "we chat"
    assert channel(url=own, referrer="https://www.google.com/x") == "google.com"
    assert channel(url=own, referrer="https://shop.example/b") is None
    assert channel(url=own) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
IDS = st.sampled_from(["e-1", "u-1", "42", "null", ""]) | JSON
EVENTS = (
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["page", "click", "identify", "purchase", "redeem", "custom", "nope"]) | JSON,
            "id": IDS,
            "anonymous_id": IDS,
            "user_id": IDS,
            "ts": st.just(NOW) | JSON,
            "seq": st.integers() | JSON,
            "page": st.fixed_dictionaries({}, optional={"url": JSON, "path": JSON, "referrer": st.text()}) | JSON,
            "element": JSON,
            "name": JSON,
            "properties": st.fixed_dictionaries({}, optional={"order_id": IDS, "amount": JSON, "matures_at": JSON}),
            "other": JSON,
        },
    )
    | JSON
)


@given(st.lists(EVENTS, max_size=4), st.just(NOW) | JSON)
def test_every_event_is_decoded_or_rejected_and_what_is_decoded_can_be_read_again(
    events: list[Any], sent_at: object
) -> None:
    decoded = decode_native([json.dumps(event, allow_nan=True).encode() for event in events], WEB, sent_at=sent_at)
    places = [index for index, _ in decoded.events] + [one.index for one in decoded.rejections]
    assert sorted(places) == list(range(len(events)))
    for _, event in decoded.events:
        line = encode_event(event)
        assert b"\n" not in line
        (back,) = decode_events(line)
        assert back.id == event.id
        assert isinstance(msgspec.json.decode(back.properties), dict)
        assert isinstance(json.loads(bytes(back.properties)), dict)
        assert 946_684_800_000 <= event.occurred_at <= NOW


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_any_bytes_are_decoded_or_rejected(raws: list[bytes]) -> None:
    decoded = decode_native(raws, WEB)
    assert len(decoded.events) + len(decoded.rejections) == len(raws)


def test_a_name_that_is_no_utf_8_spoils_its_own_event_alone() -> None:
    """Also of a field that is left out, as those within an element are."""
    good = b'{"type":"page","anonymous_id":"a-1","id":"e-1"}'
    bad = b'{"type":"click","anonymous_id":"a-1","id":"e-2","element":{"tag":"a","te\x90":"x"}}'
    found = decode_native([bad, good], WEB)
    assert [event.id for _, event in found.events] == ["e-1"]
    assert [(one.index, one.reason) for one in found.rejections] == [(0, Reason.MALFORMED)]
