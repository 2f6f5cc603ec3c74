"""Reading what a record of topic `events` carries, before it is folded."""

from __future__ import annotations

import json
import re
from typing import Final

import msgspec

from collector.wire.block import decode_events
from collector.wire.event import Event, routing_key
from collector.wire.record import Kind, Record, UnreadableRecordError
from processors.domain.person import link_key
from processors.engine.codec import decode_transfer

_SOURCE: Final = re.compile(r"[0-9]+-[0-9]+/[0-9]+")


class _Claim(msgspec.Struct):
    anonymous_id: str
    user_id: str


class _Document(msgspec.Struct):
    number: int
    toml: str


class _Cut(msgspec.Struct):
    top: int
    next: int


class _Request(msgspec.Struct):
    definitions: str | msgspec.UnsetType = msgspec.UNSET
    tiers: _Cut | None = None


_BODIES: Final = {Kind.CLAIM: _Claim, Kind.DEFINITIONS: _Document, Kind.TIERS: _Cut, Kind.PUBLISH: _Request}
"""What the value of a control record has to be; a transfer has a decoder of its own."""


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
        elif draft.kind is Kind.TRANSFER:
            decode_transfer(draft.value)
        elif draft.kind in _BODIES:
            msgspec.json.decode(draft.value, type=_BODIES[draft.kind])
    except (msgspec.MsgspecError, ValueError) as error:
        msg = f"{draft.kind} record: {error}"
        raise UnreadableRecordError(msg) from error
    return events


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
