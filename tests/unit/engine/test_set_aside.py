"""A record that can't be folded is set aside with its bytes, and the partition goes on."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest

from collector.wire.record import (
    HOUR_MS,
    Draft,
    Kind,
    NewerSchemaError,
    Record,
    UnreadableRecordError,
    read_headers,
)
from processors.adapters.sqlite.store import SqliteStore
from processors.engine.codec import decode_state
from processors.engine.fold import SET_ASIDE_BYTES
from processors.engine.outputs import EVENTS, SET_ASIDE
from processors.engine.ports import Unreadable
from tests.unit.engine.partition import DAY, SHIPPED, PartitionLog, acquire, fold

EVENT = '{"id":"1","type":"page","occurred_at":1,"received_at":1,'

BAD: dict[str, tuple[Kind, bytes, dict[str, Any]]] = {
    "a block that is no JSON": (Kind.EVENTS, b"{\n", {}),
    "a block with half an event": (Kind.EVENTS, b'{"id":"1"}\n', {}),
    "an event of nobody": (Kind.EVENTS, f"{EVENT[:-1]}}}\n".encode(), {"count": 1}),
    "an event of no known type": (Kind.EVENTS, EVENT.replace("page", "dance").encode() + b'"user_id":"1"}\n', {}),
    "a forwarded block for nobody": (Kind.FORWARD, EVENT.encode() + b'"user_id":"1"}\n', {}),
    "a forwarded block for no user": (Kind.FORWARD, EVENT.encode() + b'"user_id":"1"}\n', {"person": "a:x"}),
    "a claim of nobody": (Kind.CLAIM, b"{}", {}),
    "a claim that is a list": (Kind.CLAIM, b"[]", {}),
    "a transfer of nothing": (Kind.TRANSFER, b"{}", {}),
    "a document without a number": (Kind.DEFINITIONS, b'{"toml": "fold = 1"}', {}),
    "a document that is no text": (Kind.DEFINITIONS, b'{"number": 2, "toml": null}', {}),
    "a cut without numbers": (Kind.TIERS, b'{"top": null, "next": 1}', {}),
    "a request that is no object": (Kind.PUBLISH, b'"fold = 1"', {}),
    "a request for no text": (Kind.PUBLISH, b'{"definitions": 1}', {}),
    "more events than its header says": (Kind.EVENTS, EVENT.encode() + b'"user_id":"1"}\n', {"count": 0}),
    "fewer events than its header says": (Kind.EVENTS, EVENT.encode() + b'"user_id":"1"}\n', {"count": 2}),
    "an order that is a list": (
        Kind.EVENTS,
        EVENT.replace("page", "purchase").encode() + b'"user_id":"1","properties":[]}\n',
        {"count": 1},
    ),
    "a time that no state holds": (
        Kind.EVENTS,
        EVENT.replace(":1,", f":{10**30},").encode() + b'"user_id":"1"}\n',
        {"count": 1},
    ),
    "a source that is none": (Kind.EVENTS, EVENT.encode() + b'"user_id":"1"}\n', {"source": "here"}),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_makes_no_sense_is_set_aside_and_the_partition_goes_on(name: str) -> None:
    kind, value, draft = BAD[name]
    log = PartitionLog()
    log.event(0, "submit")
    offset = log.append(kind, 1, value, **draft)
    log.event(2, "submit")
    log.event(3, "view")
    for cut in (None, 1):
        found = await fold(log.records, cut=cut)
        (aside,) = (one for _, one in found.outputs if one.topic == SET_ASIDE)
        assert aside.value == value
        assert dict(aside.headers)["offset"] == b"%d" % offset
        assert dict(aside.headers)["reason"]
        assert [one["to"] for one in found.changes("u:1")] == ["decision"]
        assert found.state is not None
        assert decode_state(0, 1, found.state).position == (len(log.records), 0)


async def test_so_is_a_record_whose_headers_make_no_sense() -> None:
    log = PartitionLog()
    log.event(0, "submit")
    offset = log.unreadable(b"\xff\x00")
    log.event(2, "submit")
    log.event(3, "view")
    found = await fold(log.records)
    aside = next(one for _, one in found.outputs if one.topic == SET_ASIDE)
    assert (aside.value, dict(aside.headers)) == (
        b"\xff\x00",
        {"offset": b"%d" % offset, "reason": b"no header kind", "bytes": b"2"},
    )
    assert len(found.changes("u:1")) == 1


async def test_a_document_that_is_not_valid_changes_nothing() -> None:
    """It was numbered before it was read; the number after it is the next one's."""
    log = PartitionLog()
    log.definitions(1, 2, "fold = 1\nnonsense = 1")
    log.definitions(2, 3, "[[behaviours]]\nname = []")
    log.decide(3)
    log.definitions(HOUR_MS, 4, SHIPPED.replace("weight = 2.5", "weight = 1"))
    changes = (await fold(log.records)).changes()
    assert [(one["to"], one["definitions"]) for one in changes] == [("decision", 1), ("prospect", 4)]


async def test_before_the_first_document_nothing_counts() -> None:
    log = PartitionLog(None)
    log.decide(0)
    log.money("purchase", 1, user="2")
    changes = (await fold(log.records)).changes()
    assert [(one["person"], one["to"], one["definitions"]) for one in changes] == [("u:2", "holding", 0)]


async def test_requests_are_numbered_and_fanned_out() -> None:
    log = PartitionLog(None)
    for number in range(3):
        log.control(Kind.PUBLISH, number, {"definitions": f"fold = {number}"})
    log.control(Kind.PUBLISH, 4, {"tiers": {"top": 6000, "next": 2000}})
    outputs = [one for _, one in (await fold(log.records)).outputs]
    bodies = [json.loads(one.value or b"") for one in outputs]
    assert bodies[:3] == [{"number": n + 1, "toml": f"fold = {n}"} for n in range(3)]
    assert bodies[3] == {"top": 6000, "next": 2000}
    assert [dict(one.headers)["source"] for one in outputs] == [b"0-%d/0" % n for n in range(4)]


async def test_a_repeat_of_a_derived_record_changes_nothing() -> None:
    log = PartitionLog()
    for _ in range(2):
        log.block(1, *(log.make(1, "submit", id=f"s{n}") for n in range(2)), source="0-7/1")
    log.block(2, log.make(2, "submit", id="s9"), source="0-7/0")
    log.block(3, log.make(3, "submit", id="s10"), source="0-6/9")
    log.block(4, log.make(4, "view", id="s11"), source="0-7/2")
    found = await fold(log.records)
    (change,) = found.changes()
    assert change["decision_score"] == 5.5
    assert change["position"]["offset"] == 5


async def test_counts_say_what_was_folded_dropped_and_set_aside() -> None:
    log = PartitionLog()
    log.block(0, log.make(0, id="a"), log.make(0, id="a"), log.make(0, id="b"))
    log.unreadable()
    log.event(0, received=26 * HOUR_MS)
    store = SqliteStore(":memory:")
    unit = await acquire(store)
    await unit.take(log.records)
    assert unit.fold.take_counts() == {"folded": 3, "repeated": 1, "beyond": 1, "over_bound": 0, "unreadable": 1}
    assert sum(unit.fold.take_counts().values()) == 0
    store.close()


async def test_a_record_of_a_newer_program_is_waited_for() -> None:
    """To go past it would lose what was acknowledged: whoever reads it next may be able to."""
    log = PartitionLog()
    log.event(0, "view")
    offset = len(log.records)
    log.records.append(Unreadable(0, offset, "schema 2 is newer than 1", b"?", newer=True))
    store = SqliteStore(":memory:")
    try:
        unit = await acquire(store)
        with pytest.raises(NewerSchemaError, match="schema 2"):
            await unit.take(log.records)
        assert unit.position.offset <= offset
    finally:
        store.close()


def test_so_is_one_whose_other_headers_it_does_not_know() -> None:
    for headers in ([("schema", b"2")], [("schema", b"2"), ("kind", b"new"), ("count", None)]):
        with pytest.raises(NewerSchemaError, match="schema 2 is newer than 1"):
            read_headers(headers, b"")


HEADERS: list[tuple[str, bytes | None]] = [
    ("kind", b"events"), ("schema", b"1"), ("count", b"1"), ("clock", b"5"), ("source", b"0-1/2"),
]  # fmt: skip


@pytest.mark.parametrize("said", [None, b"", b"\xff", b"-1", b"9" * 30, b"9" * 5000, b"x", b"1.5"])
@pytest.mark.parametrize("name", ["kind", "schema", "count", "clock"])
def test_headers_that_make_no_sense_are_unreadable(name: str, said: bytes | None) -> None:
    headers = [(one, said if one == name else value) for one, value in HEADERS]
    if (name, said) in {("schema", b"-1"), ("schema", b"9" * 30)}:
        return  # the one is as old as can be, the other a newer program's
    with pytest.raises(UnreadableRecordError):
        read_headers(headers, b"")


NUMBERS = (b"-1", b"1.5", b"1e400", b"9" * 30, b"9223372036854775808", b"-9223372036854775809", b"null", b'"1"', b"[]")
TEXTS = (b"null", b"[]", b"{}", b"1", b'"\\ud800"', b'""', b'"u:"', b"true", b'"\xff"', b"[" * 2000 + b"]" * 2000)


def damaged(value: bytes, rng: random.Random) -> bytes:
    """Return a record's value with a few faults in it, such as other programs and broken ones make."""
    for _ in range(rng.randrange(1, 4)):
        way, at = rng.randrange(6), rng.randrange(len(value) + 1)
        pattern, others = ((rb"-?\d+", NUMBERS), (rb'"[^"]*"', TEXTS))[way % 2]
        found = list(re.finditer(pattern, value))
        if way == 0:
            value = value[:at] + rng.randbytes(1) + value[at + 1 :]
        elif way == 1:
            value = value[:at]
        elif way == 2:
            value += value
        elif found:
            one = rng.choice(found)
            value = value[: one.start()] + rng.choice(others) + value[one.end() :]
    return value


async def of_every_kind() -> list[Draft]:
    """Return a record of every kind that carries a value."""
    log = PartitionLog()
    log.block(1, log.make(1, "view", user=None, anonymous_id="x", seq=3, session_id="s"))
    log.block(2, log.make(2, type="identify", user="9", anonymous_id="x"))
    log.money("purchase", 3, order="o9", matures_at=4, amount="3.00")
    log.control(Kind.CLAIM, 4, {"anonymous_id": "y", "user_id": "2"}, source="0-3/4")
    log.control(Kind.TIERS, 4, {"top": 4, "next": 2}, source="0-3/5")
    log.control(Kind.PUBLISH, 4, {"definitions": "fold = 1"})
    found = [one.draft for one in log.records if isinstance(one, Record)]
    derived = [one for _, one in (await fold(log.records)).outputs if one.topic == EVENTS]
    return found + [read_headers(one.headers, one.value or b"") for one in derived]


async def test_whatever_a_record_holds_the_partition_goes_on() -> None:
    rng = random.Random(8)
    drafts = await of_every_kind()
    assert {one.kind for one in drafts} >= set(Kind) - {Kind.TICK, Kind.LIVE}
    for _ in range(150):
        draft = rng.choice(drafts)
        log = PartitionLog()
        log.append(
            draft.kind, 1, damaged(draft.value, rng), count=draft.count, source=draft.source, person=draft.person
        )
        log.decide(2, user="77")
        log.tick(120 * DAY)
        found = await fold(log.records)
        assert "decision" in {one["to"] for one in found.changes("u:77")}, log.records[1]


async def test_of_a_large_record_the_beginning_is_kept() -> None:
    log = PartitionLog()
    log.unreadable(b"\xff" * (SET_ASIDE_BYTES + 1))
    aside = next(one for _, one in (await fold(log.records)).outputs if one.topic == SET_ASIDE)
    assert (len(aside.value or b""), dict(aside.headers)["bytes"]) == (SET_ASIDE_BYTES, b"%d" % (SET_ASIDE_BYTES + 1))
