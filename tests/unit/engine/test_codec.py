"""States as bytes: what goes in comes out, and equal persons have equal bytes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from collector.wire.record import HOUR_MS, Kind
from processors.adapters.sqlite.store import SqliteStore
from processors.domain.person import Link
from processors.domain.remembered import ROW_BYTES
from processors.engine.codec import (
    decode_link,
    decode_person,
    decode_state,
    decode_transfer,
    encode_link,
    encode_person,
    encode_state,
    encode_transfer,
)
from processors.engine.outputs import EVENTS
from processors.engine.tallies import Tallies
from tests.unit.engine.partition import DAY, START, PartitionLog, acquire, fold


def lively(user: str | None = "1") -> PartitionLog:
    """A person with something in every field."""
    log = PartitionLog()
    log.decide(0, user=user, anonymous_id="x", seq=None, session_id="s1")
    log.event(HOUR_MS, user=user, anonymous_id="x", seq=70, name="registered")
    log.event(HOUR_MS, user=user, anonymous_id="y", seq=0, type="dwell", properties={"ms": 90_000})
    if user is not None:
        log.money("purchase", 2 * HOUR_MS, matures_at=START + 2 * DAY, amount="10.50", trusted=False)
        log.money("redeem", 3 * HOUR_MS, redemption_id="r", remaining="5")
    return log


@pytest.mark.parametrize("key", ["u:1", "a:x"])
async def test_a_person_comes_out_as_it_went_in(key: str) -> None:
    found = (await fold(lively("1" if key[0] == "u" else None).records)).people[key]
    person = decode_person(key, found)
    assert person.changes
    assert person.devices
    assert encode_person(person) == found


async def test_a_transfer_leaves_out_what_is_remembered_from_before() -> None:
    person = decode_person("u:1", (await fold(lively().records)).people["u:1"])
    assert len(person.remembered) == 7 * ROW_BYTES
    assert len(decode_transfer(encode_transfer("x", "1", person, START + HOUR_MS))[1].remembered) == 4 * ROW_BYTES


async def test_a_state_of_before_there_were_tallies_counts_from_where_it_stands() -> None:
    log = lively()
    found = (await fold(log.records)).state or b""
    assert decode_state(0, 1, found).tallies.sources["(none)"].read == 7
    older = msgspec.msgpack.encode(msgspec.msgpack.decode(found)[:15])
    assert decode_state(0, 1, older).tallies == Tallies(begin=len(log.records))


async def test_a_state_comes_out_as_it_went_in() -> None:
    log = lively()
    log.control(Kind.TIERS, 0, {"top": 6000, "next": 2000}, source="0-3/1")
    found = (await fold(log.records)).state
    assert found is not None
    state = decode_state(0, 1, found)
    assert (state.tiers, state.heard, state.stages["holding"]) == ((6000, 2000), {0: (3, 1)}, 1)
    assert encode_state(state) == found


def test_a_link_comes_out_as_it_went_in() -> None:
    link = Link("l:x", "客户", shared=True, last_record=START, listed=7)
    assert decode_link("l:x", encode_link(link)) == link


async def transfers(log: PartitionLog, **cuts: Any) -> list[bytes]:
    outputs = (await fold(log.records, **cuts)).outputs
    return [one.value or b"" for _, one in outputs if one.topic == EVENTS and b"transfer" in dict(one.headers)["kind"]]


async def test_a_transfers_bytes_are_a_function_of_the_log() -> None:
    log = lively(None)
    log.control(Kind.CLAIM, 25 * HOUR_MS, {"anonymous_id": "x", "user_id": "客户"})
    (whole,) = await transfers(log)
    for cut in (1, 2, 3):
        assert await transfers(log, cut=cut, size=cut) == [whole]
    body, person = decode_transfer(whole)
    assert (body.anonymous_id, body.user_id, body.stage, body.published) == ("x", "客户", "decision", "decision")
    assert person.key == "a:x"
    assert encode_transfer("x", "客户", person, 0) == whole
    assert json.loads(whole)["user_id"] == "客户"


async def test_who_was_never_published_brings_no_stage() -> None:
    log = PartitionLog()
    log.event(0, "view", user=None, anonymous_id="x")
    log.control(Kind.CLAIM, 1, {"anonymous_id": "x", "user_id": "1"})
    (value,) = await transfers(log)
    assert decode_transfer(value)[0].published is None


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b'{"anonymous_id":"x","user_id":"1","stage":"decision"}'])
def test_what_is_no_transfer_is_refused(value: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_transfer(value)


async def test_an_owner_goes_on_where_the_one_before_stood() -> None:
    log = lively()
    store = SqliteStore(":memory:")
    first = await acquire(store)
    await first.take(log.records)
    second = await acquire(store)
    assert second.position == first.position
    assert encode_state(second.fold.state) == encode_state(first.fold.state)
    store.close()
