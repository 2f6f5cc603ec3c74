"""The contract's message of a stage change, its headers, and the topics it goes to."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from collector.wire.record import HOUR_MS, Kind
from processors.engine.changes import rfc3339, tier_of
from processors.wire import STAGES, decode_change, encode_change, json_schema
from tests.unit.engine.partition import DAY, START, Folded, PartitionLog, fold


def whole_story() -> PartitionLog:
    """Everything that makes a change: events, money, timers, a document, a claim, and the end of lives."""
    log = PartitionLog()
    log.control(Kind.TIERS, 0, {"top": 6000, "next": 2000})
    log.decide(0, user=None, anonymous_id="x", context=None)
    log.control(Kind.CLAIM, 1, {"anonymous_id": "x", "user_id": "1"})
    log.decide(0, user="客户 2")
    log.event(1, user="客户 2", type="dwell", page=None, properties={"ms": 70_000})
    log.money("purchase", HOUR_MS, trusted=False, matures_at=START + 2 * DAY)
    log.money("purchase", 2 * HOUR_MS)
    log.money("redeem", 4 * DAY, trusted=False)
    log.tick(8 * DAY)
    log.definitions(8 * DAY, 2, "fold = 1")
    log.tick(60 * DAY)
    return log


@pytest.fixture
async def story() -> Folded:
    return await fold(whole_story().records)


def test_every_change_follows_the_schema(story: Folded) -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    kinds = set()
    for change in story.changes():
        validator.validate(change)
        kinds.add(change["cause"]["kind"])
    assert kinds == {"event", "timer", "transfer", "definitions"}
    for broken in ({"version": 0}, {"to": "rich"}, {"schema": 2}, {"evidence": [{"behaviour": "x"}]}):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(story.changes()[0] | broken)


def test_a_change_is_written_as_it_is_read(story: Folded) -> None:
    for _, one in story.outputs:
        if one.topic == "stage-changes":
            assert one.value is not None
            assert encode_change(decode_change(one.value)) == one.value


def test_versions_of_a_life_have_no_gap_and_ids_are_unique(story: Folded) -> None:
    changes = story.changes()
    assert len({one["id"] for one in changes}) == len(changes)
    lives: dict[tuple[str, str], list[int]] = {}
    for one in changes:
        lives.setdefault((one["person"], one["life"]), []).append(one["version"])
    for versions in lives.values():
        assert versions == list(range(1, len(versions) + 1))


def test_the_first_change_is_from_prospect_and_each_starts_where_the_last_ended(story: Folded) -> None:
    for person in {one["person"] for one in story.changes()}:
        told = story.changes(person)
        assert [one["from"] for one in told] == ["prospect", *(one["to"] for one in told[:-1])]


def test_the_headers_are_cloud_events_and_the_raw_user_id(story: Folded) -> None:
    for _, one in story.outputs:
        if one.topic != "stage-changes":
            continue
        change, headers = json.loads(one.value or b""), dict(one.headers)
        assert one.key == change["person"].encode()
        assert headers["ce_specversion"] == b"1.0"
        assert headers["ce_type"] == b"phasewatch.stage-change.v1"
        assert headers["ce_source"] == b"shop"
        assert headers["ce_id"] == change["id"].encode()
        assert headers["ce_time"] == change["at"].encode()
        assert headers["content-type"] == b"application/json"
        assert headers.get("user_id") == (change["user_id"].encode() if change["user_id"] else None)


def topics_of(found: Folded) -> list[tuple[dict[str, Any], list[str]]]:
    """Return each change with the topics it went to, but for `events`."""
    told: list[tuple[dict[str, Any], list[str]]] = []
    for _, one in found.outputs:
        if one.topic == "stage-changes":
            told.append((json.loads(one.value or b""), []))
        if one.topic != "events":
            told[-1][1].append(one.topic)
    return told


def test_every_change_goes_to_stage_changes_and_to_stages(story: Folded) -> None:
    for _, topics in topics_of(story):
        assert topics[0] == "stage-changes"
        assert topics[-1] == "stages"


def test_an_end_is_a_tombstone_on_stages(story: Folded) -> None:
    last = {one.key: one.value for _, one in story.outputs if one.topic == STAGES}
    ended = {one["person"].encode() for one in story.changes() if one["to"] is None}
    assert ended == {b"a:x", "u:客户 2".encode()}
    assert {key for key, value in last.items() if value is None} == ended


async def told(log: PartitionLog) -> list[tuple[str | None, bool, list[str]]]:
    return [
        (change["to"], change["confirmed"], [name.removeprefix("entered.") for name in topics[1:-1]])
        for change, topics in topics_of(await fold(log.records))
    ]


async def test_a_phase_entered_goes_to_its_topic_and_once_more_when_confirmed() -> None:
    log = PartitionLog()
    log.decide(0)
    log.money("purchase", 1, trusted=False)
    log.money("purchase", HOUR_MS)
    log.money("redeem", 2 * HOUR_MS)
    assert await told(log) == [
        ("decision", True, ["decision"]),
        ("holding", False, ["holding"]),
        ("holding", True, ["holding"]),
        ("post_redemption", True, ["post-redemption"]),
    ]


async def test_a_retraction_goes_to_the_topic_of_what_it_takes_back() -> None:
    log = PartitionLog()
    log.decide(0)
    log.money("purchase", 1, trusted=False)
    log.tick(4 * DAY)
    assert await told(log) == [
        ("decision", True, ["decision"]),
        ("holding", False, ["holding"]),
        ("decision", True, ["decision", "holding"]),
    ]
    changes = (await fold(log.records)).changes()
    assert [one["retracts"] for one in changes] == [None, None, changes[1]["id"]]
    assert changes[2]["cause"] == {"kind": "timer", "order_id": "o1"}
    assert changes[2]["at"] == rfc3339(START + 3 * DAY + HOUR_MS)


async def test_other_stages_have_no_topic_of_their_own() -> None:
    log = PartitionLog()
    log.decide(0)
    log.tick(50 * DAY)
    assert await told(log) == [
        ("decision", True, ["decision"]),
        ("prospect", True, []),
        ("dormant", True, []),
        (None, True, []),
    ]


async def test_a_timers_change_is_at_its_due_instant_and_others_at_their_record() -> None:
    log = PartitionLog()
    log.decide(5, received=7)
    log.tick(40 * DAY + 3)
    found = (await fold(log.records)).changes()
    assert [one["at"] for one in found] == [
        rfc3339(START + 7),
        rfc3339(START + 336 * HOUR_MS),
        rfc3339(START + 30 * DAY + HOUR_MS),
    ]


async def test_what_is_imported_is_not_actionable() -> None:
    for imported in (True, False):
        log = PartitionLog()
        log.block(1, *(log.make(0, "submit") for _ in range(3)), imported=imported)
        (change,) = (await fold(log.records)).changes()
        assert change["actionable"] is not imported


@pytest.mark.parametrize(
    ("score", "tier"), [(6000, "top"), (5999, "next"), (2000, "next"), (1999, "rest"), (0, "rest")]
)
def test_a_tier_is_the_place_under_the_latest_cut(score: int, tier: str) -> None:
    assert tier_of(score, (6000, 2000)) == tier
    assert tier_of(score, None) is None


def test_times_are_written_with_milliseconds() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1_795_000_000_007) == "2026-11-18T11:06:40.007Z"
