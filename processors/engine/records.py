"""Reading what a record of topic `events` carries, before it is folded."""

from __future__ import annotations

import json
import re
from typing import Annotated, Final

import msgspec

from collector.wire.block import decode_events
from collector.wire.event import MONEY_TYPES, Event, routing_key
from collector.wire.partition import partition_of
from collector.wire.record import Kind, Record, UnreadableRecordError
from processors.domain.facts import read_fact
from processors.domain.person import link_key
from processors.engine.codec import decode_transfer, encode_person
from processors.engine.ports import Unreadable

_SOURCE: Final = re.compile(r"[0-9]{1,9}-[0-9]{1,18}/[0-9]{1,9}")
_MOST: Final = 1 << 53
"""Times and numbers are below it: what JSON carries whole everywhere (RFC 8259, section 6), and a state can hold."""
_Whole = Annotated[int, msgspec.Meta(ge=-_MOST, le=_MOST)]


class _Claim(msgspec.Struct):
    anonymous_id: str
    user_id: str


class _Document(msgspec.Struct):
    number: Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
    toml: str


class _Cut(msgspec.Struct):
    top: _Whole
    next: _Whole


class _Money(msgspec.Struct):
    matures_at: _Whole | None = None


class _Request(msgspec.Struct):
    definitions: str | msgspec.UnsetType = msgspec.UNSET
    tiers: _Cut | None = None


_BODIES: Final = {Kind.CLAIM: _Claim, Kind.DEFINITIONS: _Document, Kind.TIERS: _Cut, Kind.PUBLISH: _Request}
"""What the value of a control record has to be; a transfer has a decoder of its own."""
_money_decoder: Final = msgspec.json.Decoder(_Money)


def read_whole(record: Record | Unreadable, partitions: int) -> tuple[Record, list[Event], set[str]] | Unreadable:
    """Return a record, its events and the keys of who is needed to fold it; what is set aside where it can't be folded.

    Args:
        record: as the log gave it.
        partitions: of the log.
    """
    if isinstance(record, Unreadable):
        return record
    try:
        events = read_block(record)
        keys = keys_of(record, events)
        check_place(record, events, partitions)
    except UnreadableRecordError as error:
        value, said = record.draft.value, record.draft.count
        return Unreadable(
            record.partition, record.offset, str(error), value, events=said, append_time=record.append_time
        )
    return record, events, keys


def read_block(record: Record) -> list[Event]:
    """Return the events of a record's block; an empty list for a record that carries none.

    Raises:
        UnreadableRecordError: where the value is not what its kind says.
    """
    draft = record.draft
    events: list[Event] = []
    try:
        if draft.kind is Kind.FORWARD and (draft.person or "")[:2] != "u:":
            msg = f"is for {draft.person}, which is no user"
            raise UnreadableRecordError(msg)
        if draft.source is not None and not _SOURCE.fullmatch(draft.source):
            msg = f"source {draft.source!r} is no partition-offset/index"
            raise UnreadableRecordError(msg)
        if draft.kind in (Kind.EVENTS, Kind.FORWARD):
            events = decode_events(draft.value)
            _check(events, draft.count)
        elif draft.kind is Kind.TRANSFER:
            encode_person(decode_transfer(draft.value)[1])
        elif draft.kind in _BODIES:
            msgspec.json.decode(draft.value, type=_BODIES[draft.kind])
    except (msgspec.MsgspecError, ValueError, LookupError, OverflowError, RecursionError) as error:
        msg = f"{draft.kind} record: {error}"
        raise UnreadableRecordError(msg) from error
    return events


def _check(events: list[Event], count: int) -> None:
    """Raise UnreadableRecordError where events are fewer or more than said, or hold what no collector lets pass."""
    if len(events) != count:
        msg = f"has {len(events)} events where its header says {count}"
        raise UnreadableRecordError(msg)
    for number, event in enumerate(events):
        if not (0 <= event.occurred_at < _MOST and (event.seq is None or 0 <= event.seq < _MOST)):
            msg = f"event {number} has a time or a number that is out of range"
            raise UnreadableRecordError(msg)
        if event.type in MONEY_TYPES:
            _check_money(number, event)


def _check_money(number: int, event: Event) -> None:
    try:
        _money_decoder.decode(event.properties)
        read_fact(event)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        msg = f"event {number}, a {event.type}: {error}"
        raise UnreadableRecordError(msg) from error


def check_place(record: Record, events: list[Event], partitions: int) -> None:
    """Raise UnreadableRecordError where a record's first person, or the one it is for, is another partition's.

    One suffices: what puts records into wrong partitions has another number of them, or another hash.
    """
    match record.draft.kind:
        case Kind.EVENTS if events:
            key = routing_key(events[0])
        case Kind.FORWARD:
            key = record.draft.person or ""
        case Kind.CLAIM:
            key = f"a:{json.loads(record.draft.value)['anonymous_id']}"
        case Kind.TRANSFER:
            key = f"u:{decode_transfer(record.draft.value)[0].user_id}"
        case _:
            return
    place = partition_of(key, partitions)
    if place != record.partition:
        msg = f"{record.draft.kind} record: its first person belongs to partition {place} of {partitions}"
        raise UnreadableRecordError(msg)


def keys_of(record: Record, events: list[Event]) -> set[str]:
    """Return the keys of the persons and links that folding a record needs.

    Raises:
        UnreadableRecordError: where an event is nobody's.
    """
    draft = record.draft
    match draft.kind:
        case Kind.EVENTS:
            try:
                keys = {routing_key(event) for event in events}
            except ValueError as error:
                msg = f"{draft.kind} record: {error}"
                raise UnreadableRecordError(msg) from error
            return keys | {f"l{key[1:]}" for key in keys if key[0] == "a"}
        case Kind.FORWARD:
            return {draft.person or ""}
        case Kind.CLAIM:
            anonymous_id = json.loads(draft.value)["anonymous_id"]
            return {f"a:{anonymous_id}", link_key(anonymous_id)}
        case Kind.TRANSFER:
            return {f"u:{decode_transfer(draft.value)[0].user_id}"}
        case _:
            return set()
